//! The CustomResourceDefinitions of `network.openshift.io`, made from the types.
//!
//! `manifests/base/crds/` holds what [`yaml`] gives; a test keeps them the same.

use k8s_openapi::Resource;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::schema::StructuralSchemaRewriter;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::{ClusterNetwork, EgressNetworkPolicy, HostSubnet, Kind, NetNamespace};

pub(super) mod rules;

/// A column of `kubectl get`: its title, the path of its field, and the field's type.
struct Column(&'static str, &'static str, &'static str);

/// The kinds that are defined here, in the order of [`Kind::ALL`].
pub const KINDS: [Kind; 4] =
    [Kind::ClusterNetwork, Kind::HostSubnet, Kind::NetNamespace, Kind::EgressNetworkPolicy];

/// The definition of one of [`KINDS`]; `None` for a kind that Kubernetes defines.
///
/// # Errors
/// The type has a schema that Kubernetes has no words for; no type here has.
pub fn definition(kind: Kind) -> Option<Result<CustomResourceDefinition, serde_json::Error>> {
    // Columns and their titles are the original's (spec: cluster side, §1).
    match kind {
        Kind::ClusterNetwork => Some(definition_of::<ClusterNetwork>(
            kind,
            &[
                Column("Cluster Network", ".network", "string"),
                Column("Service Network", ".serviceNetwork", "string"),
                Column("Plugin Name", ".pluginName", "string"),
            ],
        )),
        Kind::HostSubnet => Some(definition_of::<HostSubnet>(
            kind,
            &[
                Column("Host", ".host", "string"),
                Column("Host IP", ".hostIP", "string"),
                Column("Subnet", ".subnet", "string"),
                Column("Egress CIDRs", ".egressCIDRs", "string"),
                Column("Egress IPs", ".egressIPs", "string"),
            ],
        )),
        Kind::NetNamespace => Some(definition_of::<NetNamespace>(
            kind,
            &[Column("NetID", ".netid", "integer"), Column("Egress IPs", ".egressIPs", "string")],
        )),
        Kind::EgressNetworkPolicy => Some(definition_of::<EgressNetworkPolicy>(kind, &[])),
        _ => None,
    }
}

/// The definition of one of [`KINDS`] as a YAML document.
///
/// # Errors
/// As [`definition`].
pub fn yaml(kind: Kind) -> Option<Result<String, serde_json::Error>> {
    let definition = definition(kind)?;
    Some(definition.and_then(|definition| {
        // By way of a JSON value: keys in alphabetical order.
        let value = serde_json::to_value(&definition)?;
        serde_saphyr::to_string(&value).map_err(serde::ser::Error::custom)
    }))
}

fn definition_of<T: Resource + JsonSchema>(
    kind: Kind,
    columns: &[Column],
) -> Result<CustomResourceDefinition, serde_json::Error> {
    let columns: Vec<_> = columns
        .iter()
        .map(|Column(name, path, type_)| CustomResourceColumnDefinition {
            name: (*name).to_owned(),
            json_path: (*path).to_owned(),
            type_: (*type_).to_owned(),
            ..CustomResourceColumnDefinition::default()
        })
        .collect();
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", kind.plural(), T::GROUP)),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: T::GROUP.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: T::KIND.to_owned(),
                list_kind: Some(format!("{}List", T::KIND)),
                plural: kind.plural().to_owned(),
                singular: Some(T::KIND.to_ascii_lowercase()),
                short_names: kind.short_name().map(|name| vec![name.to_owned()]),
                ..CustomResourceDefinitionNames::default()
            },
            scope: if kind.is_namespaced() { "Namespaced" } else { "Cluster" }.to_owned(),
            versions: vec![CustomResourceDefinitionVersion {
                name: T::VERSION.to_owned(),
                served: true,
                storage: true,
                schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema::<T>()?) }),
                additional_printer_columns: (!columns.is_empty()).then_some(columns),
                ..CustomResourceDefinitionVersion::default()
            }],
            ..CustomResourceDefinitionSpec::default()
        },
        ..CustomResourceDefinition::default()
    })
}

fn schema<T: JsonSchema>() -> Result<JSONSchemaProps, serde_json::Error> {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .with_transform(StructuralSchemaRewriter)
        .with_transform(AsKubernetesWrites)
        .into_generator()
        .into_root_schema_for::<T>();
    // Fields of an export that this version has no use for are kept as they are.
    schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), Value::Bool(true));
    schema.remove("title");
    serde_json::from_value(schema.to_value())
}

/// What Kubernetes has no words for, or other ones.
#[derive(Clone)]
struct AsKubernetesWrites;

impl Transform for AsKubernetesWrites {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if schema.get("format").and_then(Value::as_str) == Some("uint32") {
            schema.insert("format".to_owned(), "int64".into());
        }
        // An absent field stays absent: a default would be written into every object that is read.
        schema.remove("default");
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = plain(text);
        }
    }
}

/// A doc comment as `kubectl explain` should show it: its first paragraph, without links and quotes of code.
fn plain(text: &str) -> String {
    let mut paragraph = text.split("\n\n").next().unwrap_or_default();
    let mut plain = String::new();
    while let Some((before, target)) = paragraph.split_once("](") {
        plain.push_str(before);
        paragraph = target.split_once(')').map_or("", |(_, after)| after);
    }
    plain.push_str(paragraph);
    plain.replace(['[', ']', '`'], "")
}

#[cfg(test)]
mod tests;
