use std::path::Path;

use super::*;

/// `UPDATE_GOLDEN=1 cargo test -p controller crd` writes them anew.
#[test]
fn manifests_are_fresh() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/base/crds");
    for kind in KINDS {
        let text = yaml(kind).unwrap().unwrap();
        let path = dir.join(format!("{}.yaml", kind.plural()));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == text,
            "{} is stale: UPDATE_GOLDEN=1 cargo test -p controller crd",
            path.display()
        );
    }
}

#[test]
fn what_kubernetes_defines_is_not_defined_here() {
    for kind in Kind::ALL {
        assert_eq!(definition(kind).is_some(), KINDS.contains(&kind), "{kind}");
    }
}
