//! Label selectors as people type them: `env=prod,tier!=web,team in (a,b),!old`.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// Reads a selector in the syntax of `kubectl --selector`.
///
/// # Errors
/// The requirement that is none.
pub(super) fn parse(text: &str) -> Result<Selector, String> {
    let mut selector = Selector::default();
    for part in requirements(text) {
        selector.extend(requirement(part.trim()).ok_or_else(|| {
            format!(
                "{:?} is no requirement of a label selector: write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or \
                 !KEY, separated by commas",
                part.trim()
            )
        })?);
    }
    Ok(selector)
}

/// The parts between the commas that are not in parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn requirement(text: &str) -> Option<Expression> {
    let set = |rest: &str| -> Option<BTreeSet<String>> {
        let inside = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        inside.split(',').map(|value| word(value, false)).collect()
    };
    if let Some(key) = text.strip_prefix('!') {
        return Some(Expression::DoesNotExist(word(key, true)?));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Expression::NotEqual(word(key, true)?, word(value, false)?));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Expression::Equal(word(key, true)?, word(value, false)?));
    }
    match text.split_once(char::is_whitespace) {
        None => Some(Expression::Exists(word(text, true)?)),
        Some((key, rest)) => {
            let rest = rest.trim();
            match (rest.strip_prefix("notin"), rest.strip_prefix("in")) {
                (Some(values), _) => Some(Expression::NotIn(word(key, true)?, set(values)?)),
                (None, Some(values)) => Some(Expression::In(word(key, true)?, set(values)?)),
                (None, None) => None,
            }
        }
    }
}

/// A key or value: letters, digits, `-`, `_`, `.`, and in keys a `/`. Only a value may be empty.
fn word(text: &str, key: bool) -> Option<String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') || (key && c == '/');
    (text.chars().all(fits) && !(key && text.is_empty())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt;

    use super::*;

    #[test]
    fn they_select_as_kubectl_does() {
        let labels: BTreeMap<String, String> = [("env", "prod"), ("app.io/tier", "web"), ("empty", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, expected) in [
            ("env=prod", true),
            ("env==prod", true),
            (" env = prod , app.io/tier in ( web, db ) ", true),
            ("env=prod,app.io/tier=db", false),
            ("env!=prod", false),
            ("other!=prod", true),
            ("env in (test,prod)", true),
            ("env in(test)", false),
            ("env notin (test)", true),
            ("other notin (test)", true),
            ("env", true),
            ("!env", false),
            ("!other", true),
            ("empty=", true),
        ] {
            assert_eq!(parse(text).unwrap().matches(&labels), expected, "{text}");
        }
        for wrong in
            ["", "env=a b", "env in a,b", "env on (a)", "=prod", "!", "env=prod,", "a=b=c", "env in (a"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
