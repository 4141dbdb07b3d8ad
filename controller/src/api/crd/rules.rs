//! What the API server checks of each field, so that a bad `kubectl patch` is refused with a sentence.
//!
//! Each function adds to the schema of one field or object what [`validate`](crate::api::validate) asks of it: bounds, and
//! rules in CEL whose messages say what to write instead, in the same words. Strings and lists have a largest length, as the
//! API server must be able to tell beforehand what a rule costs at most; for the same reason no message quotes a number, as
//! the server thinks that `string()` could give a text of any length. Rules use the IP and CIDR functions of CEL, which
//! Kubernetes has since 1.31.

use schemars::Schema;
use serde_json::{Map, Value, json};

use crate::api::validate::ClusterNetworkLimits;
use crate::api::{PluginMode, Vnid};

/// `255.255.255.255`.
const IPV4_LENGTH: u32 = 15;
/// `255.255.255.255/32`.
const IPV4_NET_LENGTH: u32 = 18;
/// Longest name of an object: an RFC 1123 subdomain.
const NAME_LENGTH: u32 = 253;
/// More cluster networks than any cluster has.
const MOST_NETWORKS: u32 = 16;
/// More egress IPs or CIDRs than a node or namespace can use.
const MOST_ADDRESSES: u32 = 512;
/// Most rules of one EgressNetworkPolicy: the original's bound.
const MOST_RULES: u32 = 1000;

fn set(schema: &mut Schema, key: &str, value: impl Into<Value>) {
    schema.insert(key.to_owned(), value.into());
}

/// A condition in CEL, and what is said when it is false: a CEL expression that gives a string.
struct Rule<'a> {
    holds: &'a str,
    says: &'a str,
    /// The field that is to blame, below the one that is checked.
    at: Option<&'a str>,
    /// The fields that the rule reads, below the one that is checked: it only holds for those that are written anew. The API server
    /// sees to that by itself where the whole value is as it was; an object as a whole never is.
    of: &'a [&'a str],
}

impl<'a> Rule<'a> {
    const fn new(holds: &'a str, says: &'a str) -> Self {
        Self { holds, says, at: None, of: &[] }
    }

    const fn at(self, field: &'a str) -> Self {
        Self { at: Some(field), ..self }
    }

    const fn of(self, fields: &'a [&'a str]) -> Self {
        Self { of: fields, ..self }
    }

    fn to_value(&self) -> Value {
        let mut value = Map::new();
        let mut rule = self.holds.to_owned();
        if !self.of.is_empty() {
            let same = self.of.iter().map(|field| {
                let (new, old) = (format!("self.{field}"), format!("oldSelf.value().{field}"));
                format!("(has({new}) ? has({old}) && {new} == {old} : !has({old}))")
            });
            let same = same.collect::<Vec<_>>().join(" && ");
            rule = format!("(oldSelf.hasValue() && {same}) || ({rule})");
            value.insert("optionalOldSelf".to_owned(), true.into());
        }
        value.insert("rule".to_owned(), rule.into());
        value.insert("messageExpression".to_owned(), self.says.into());
        if let Some(at) = self.at {
            value.insert("fieldPath".to_owned(), at.into());
        }
        value.into()
    }
}

fn check(schema: &mut Schema, rules: &[Rule<'_>]) {
    set(schema, "x-kubernetes-validations", rules.iter().map(Rule::to_value).collect::<Vec<_>>());
}

fn between(schema: &mut Schema, least: u32, most: u32) {
    set(schema, "minimum", least);
    set(schema, "maximum", most);
}

/// Makes a field required that reading does without.
fn require(schema: &mut Schema, field: &str) {
    let required = schema.ensure_object().entry("required").or_insert_with(|| json!([]));
    if let Value::Array(fields) = required {
        fields.push(field.into());
    }
}

/// Applies `rule` to the elements of a list of at most `most`.
fn each(schema: &mut Schema, most: u32, rule: fn(&mut Schema)) {
    set(schema, "maxItems", most);
    let mut items = Schema::default();
    set(&mut items, "type", "string");
    rule(&mut items);
    set(schema, "items", items.to_value());
}

const IS_IPV4: Rule<'_> = Rule::new(
    "isIP(self) && ip(self).family() == 4",
    r#"'"' + self + '" is no IPv4 address: write one such as 192.168.1.10'"#,
);

/// An IPv4 address.
pub(in crate::api) fn ipv4(schema: &mut Schema) {
    set(schema, "maxLength", IPV4_LENGTH);
    check(schema, &[IS_IPV4]);
}

/// An address under which other nodes reach a node.
pub(in crate::api) fn node_ip(schema: &mut Schema) {
    set(schema, "maxLength", IPV4_LENGTH);
    let reachable = Rule::new(
        "!isIP(self) || !(ip(self).isLoopback() || ip(self).isUnspecified() || self == '255.255.255.255' \
                || cidr('224.0.0.0/4').containsIP(self))",
        r#"'"' + self + '" can not be an IP of a node: use the address under which other nodes reach it'"#,
    );
    check(schema, &[IS_IPV4, reachable]);
}

/// The rules of a network; `unset` is a condition under which there is nothing to check.
fn check_ipv4_net(schema: &mut Schema, unset: &str) {
    set(schema, "maxLength", IPV4_NET_LENGTH);
    let is_net = format!("{unset}isCIDR(self) && cidr(self).ip().family() == 4");
    let no_host_bits = "!isCIDR(self) || cidr(self) == cidr(self).masked()";
    check(
        schema,
        &[
            Rule::new(&is_net, r#"'"' + self + '" is no IPv4 network: write one such as 10.128.0.0/14'"#),
            Rule::new(
                no_host_bits,
                r#"'"' + self + '" has host bits set: write the first address of the network'"#,
            ),
        ],
    );
}

/// An IPv4 network without host bits.
pub(in crate::api) fn ipv4_net(schema: &mut Schema) {
    check_ipv4_net(schema, "");
}

/// The same, or nothing.
pub(in crate::api) fn optional_ipv4_net(schema: &mut Schema) {
    check_ipv4_net(schema, "self == '' || ");
}

/// A list of IPv4 addresses.
pub(in crate::api) fn ipv4_list(schema: &mut Schema) {
    each(schema, MOST_ADDRESSES, ipv4);
}

/// A list of IPv4 networks.
pub(in crate::api) fn ipv4_net_list(schema: &mut Schema) {
    each(schema, MOST_ADDRESSES, ipv4_net);
}

/// The name of another object.
pub(in crate::api) fn name(schema: &mut Schema) {
    set(schema, "maxLength", NAME_LENGTH);
}

/// Host bits of a node's subnet.
pub(in crate::api) fn host_bits(schema: &mut Schema) {
    between(schema, ClusterNetworkLimits::MIN_HOST_BITS, ClusterNetworkLimits::MAX_HOST_BITS);
}

/// A UDP port.
pub(in crate::api) fn vxlan_port(schema: &mut Schema) {
    between(schema, 1, u16::MAX.into());
}

/// The MTU of the pod network.
pub(in crate::api) fn mtu(schema: &mut Schema) {
    between(schema, ClusterNetworkLimits::MIN_MTU, u16::MAX.into());
}

/// A VNID.
pub(in crate::api) fn vnid(schema: &mut Schema) {
    between(schema, 0, Vnid::MAX.get());
}

/// The name of a plugin, in any case, or its short word.
pub(in crate::api) fn plugin_name(schema: &mut Schema) {
    set(schema, "maxLength", NAME_LENGTH);
    let names = PluginMode::ALL.map(PluginMode::plugin_name);
    let accepted: Vec<_> = names.into_iter().chain(PluginMode::ALL.map(PluginMode::word)).collect();
    let holds = format!("self.lowerAscii() in {}", json!(accepted));
    let says = format!(r#"'Unknown plugin name "' + self + '": use one of {}'"#, names.join(", "));
    check(schema, &[Rule::new(&holds, &says)]);
}

/// The rules of one entry of `clusterNetworks`.
pub(in crate::api) fn cluster_network_entry(schema: &mut Schema) {
    check(
        schema,
        &[Rule::new(
            "!isCIDR(self.CIDR) || self.hostSubnetLength + cidr(self.CIDR).prefixLength() <= 32",
            "'hostSubnetLength does not fit ' + self.CIDR + ': use 2 or more, and at most 32 less the prefix length'",
        ).at(".hostSubnetLength")],
    );
}

/// The list of cluster networks.
pub(in crate::api) fn cluster_networks(schema: &mut Schema) {
    set(schema, "maxItems", MOST_NETWORKS);
    check(
        schema,
        &[Rule::new(
            "!self.all(a, isCIDR(a.CIDR)) || self.all(a, self.exists_one(b, \
                    cidr(a.CIDR).containsCIDR(b.CIDR) || cidr(b.CIDR).containsCIDR(a.CIDR)))",
            "'two entries overlap in CIDR: choose networks that share no address'",
        )],
    );
}

/// The rules of a ClusterNetwork as a whole.
pub(in crate::api) fn cluster_network(schema: &mut Schema) {
    // Only the object `default` must repeat its first entry; another one may, but then as a whole.
    const MIRRORS: &str = "size(self.clusterNetworks) == 0 || (self.metadata.name != 'default' && !has(self.network) \
                           && !has(self.hostsubnetlength)) || ";
    let network = format!("{MIRRORS}(has(self.network) && self.network == self.clusterNetworks[0].CIDR)");
    let length = format!(
        "{MIRRORS}(has(self.hostsubnetlength) && self.hostsubnetlength == self.clusterNetworks[0].hostSubnetLength)"
    );
    require(schema, "clusterNetworks");
    check(
        schema,
        &[
            Rule::new(
                "size(self.clusterNetworks) > 0 || (has(self.network) && has(self.hostsubnetlength))",
                "'clusterNetworks is empty: list at least one CIDR with its hostSubnetLength'",
            ).at(".clusterNetworks").of(&["clusterNetworks", "network", "hostsubnetlength"]),
            Rule::new(
                &network,
                "'network must equal clusterNetworks[0].CIDR: write \"' + self.clusterNetworks[0].CIDR + '\"'",
            ).at(".network").of(&["clusterNetworks", "network"]),
            Rule::new(&length, "'hostsubnetlength must equal clusterNetworks[0].hostSubnetLength'").at(".hostsubnetlength")
                .of(&["clusterNetworks", "hostsubnetlength"]),
            Rule::new(
                "!isCIDR(self.serviceNetwork) || !self.clusterNetworks.exists(n, isCIDR(n.CIDR) && \
                        (cidr(n.CIDR).containsCIDR(self.serviceNetwork) || cidr(self.serviceNetwork).containsCIDR(n.CIDR)))",
                "'serviceNetwork ' + self.serviceNetwork + ' overlaps an entry of clusterNetworks: choose networks \
                       that share no address'",
            ).at(".serviceNetwork").of(&["clusterNetworks", "serviceNetwork"]),
            Rule::new(
                "size(self.clusterNetworks) > 0 || !has(self.network) || !isCIDR(self.network) \
                        || !isCIDR(self.serviceNetwork) || !(cidr(self.network).containsCIDR(self.serviceNetwork) \
                        || cidr(self.serviceNetwork).containsCIDR(self.network))",
                "'serviceNetwork ' + self.serviceNetwork + ' overlaps network: choose networks that share no address'",
            ).at(".serviceNetwork").of(&["clusterNetworks", "network", "serviceNetwork"]),
        ],
    );
}

/// That `field` repeats the object's name.
fn repeats_name(schema: &mut Schema, field: &str) {
    let holds = format!("self.{field} == self.metadata.name");
    let says = format!(r#"'{field} must equal metadata.name: write "' + self.metadata.name + '"'"#);
    check(schema, &[Rule::new(&holds, &says).at(&format!(".{field}")).of(&[field])]);
}

/// The rules of a HostSubnet as a whole.
pub(in crate::api) fn host_subnet(schema: &mut Schema) {
    repeats_name(schema, "host");
    // Once nodes have routed by it, a subnet changes with its node only. One that is none may be mended.
    let kept = "!has(oldSelf.subnet) || !isCIDR(oldSelf.subnet) || (has(self.subnet) && self.subnet == oldSelf.subnet)";
    let says =
        "'the subnet can not be changed: delete the object, and the controller makes another for its node'";
    let rule = Rule::new(kept, says).at(".subnet").to_value();
    if let Some(Value::Array(rules)) = schema.get_mut("x-kubernetes-validations") {
        rules.push(rule);
    }
}

/// The rules of a NetNamespace as a whole.
pub(in crate::api) fn net_namespace(schema: &mut Schema) {
    repeats_name(schema, "netname");
}

/// What an EgressNetworkPolicy says.
pub(in crate::api) fn egress_spec(schema: &mut Schema) {
    require(schema, "egress");
}

/// The list of egress rules.
pub(in crate::api) fn egress_rules(schema: &mut Schema) {
    set(schema, "maxItems", MOST_RULES);
}

/// Whether a rule allows or denies.
pub(in crate::api) fn rule_type(schema: &mut Schema) {
    set(schema, "enum", json!(["Allow", "Deny"]));
}

/// The destination of a rule.
pub(in crate::api) fn egress_peer(schema: &mut Schema) {
    check(
        schema,
        &[Rule::new(
            "has(self.cidrSelector) != has(self.dnsName)",
            "'needs exactly one of cidrSelector and dnsName'",
        )],
    );
}

/// A DNS name without wildcard; a dot at its end is allowed.
pub(in crate::api) fn dns_name(schema: &mut Schema) {
    set(schema, "maxLength", NAME_LENGTH + 1);
    check(
        schema,
        &[Rule::new(
            r"self.matches('^([A-Za-z0-9-]{1,63}\\.)*[A-Za-z0-9-]{1,63}\\.?$')",
            r#"'"' + self + '" is no DNS name: use letters, digits, "-" and "."; wildcards are not supported'"#,
        )],
    );
}
