//! What is said of documents that are not accepted.

use super::*;

/// The problems of a file, without the directory's name.
fn problems(text: &str) -> Vec<String> {
    let dir = dir(&[("x.yaml", text)]);
    load(dir.path()).unwrap_err().problems.iter().map(ToString::to_string).collect()
}

fn cluster_network(field: &str, value: &str) -> String {
    let mut fields = vec![
        ("network", "10.128.0.0/14"),
        ("hostsubnetlength", "9"),
        ("clusterNetworks", "[{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]"),
        ("serviceNetwork", "172.30.0.0/16"),
        ("pluginName", "redhat/openshift-ovs-subnet"),
    ];
    fields.retain(|(name, _)| *name != field);
    if !value.is_empty() {
        fields.push((field, value));
    }
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!(
        "apiVersion: network.openshift.io/v1\nkind: ClusterNetwork\nmetadata: {{name: default}}\n{fields}"
    )
}

#[test]
fn form() {
    for (text, expected) in [
        ("a: [1, 2", "x.yaml, document 1, line 1: this is no valid YAML: unclosed bracket '[' (column 4)"),
        (
            "- 1\n",
            "x.yaml, document 1, line 1: this is no Kubernetes object: write a mapping with apiVersion, kind and metadata",
        ),
        (
            "kind: Pod\n",
            "x.yaml, document 1, line 1: apiVersion: is missing: every object needs apiVersion and kind, such as v1 and Pod",
        ),
        (
            "\n---\n\napiVersion: v1\n",
            "x.yaml, document 1, line 4: kind: is missing: every object needs apiVersion and kind, such as v1 and Pod",
        ),
        (
            "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n",
            "x.yaml, document 1, line 1: apiVersion: EndpointSlice discovery.k8s.io/v1beta1 is not supported: use discovery.k8s.io/v1",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: 3\n",
            "x.yaml, document 1, line 3: items: is no sequence: write the list's objects under it, each with a dash",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  name: b\n",
            "x.yaml, document 1, line 5: this is no valid YAML: duplicate mapping key: name not allowed here (column 3)",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {}\n",
            "x.yaml, document 1, line 3: Pod default/: metadata.name: is missing: every object needs a name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: Web_1}\n",
            "x.yaml, document 1, line 3: Pod default/Web_1: metadata.name: \"Web_1\" is no valid name: use lower-case letters, \
             digits, '-' and '.', at most 253 characters, beginning and ending with a letter or digit",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: n, namespace: a}\n",
            "x.yaml, document 1, line 3: Node n: metadata.namespace: \"a\": a Node belongs to no namespace; remove the field",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, creationTimestamp: yesterday}\n",
            "x.yaml, document 1, line 3: Pod default/a: metadata.creationTimestamp: \"yesterday\" is no time: write one such as 2024-01-31T08:00:00Z",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    app: 1\n",
            "x.yaml, document 1, line 6: Pod default/a: metadata.labels.app: invalid type: integer `1`, expected a string: put it in quotes",
        ),
        (
            "apiVersion: network.openshift.io/v1\nkind: NetNamespace\nmetadata: {name: a}\nnetname: a\n",
            "x.yaml, document 1, line 1: NetNamespace a: missing field `netid`",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

#[test]
fn objects() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nstatus:\n  addresses:\n  - {type: Hostname, address: n}\n  \
                - {type: InternalIP, address: n}\n";
    let host_subnet = "apiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata: {name: n}\n";
    let egress = "apiVersion: network.openshift.io/v1\nkind: EgressNetworkPolicy\nmetadata: {name: e}\nspec:\n  egress:\n";
    for (text, expected) in [
        (
            node.to_owned(),
            "x.yaml, document 1, line 7: Node n: status.addresses[1].address: \"n\" is no IP address: write one such as 10.128.0.5",
        ),
        (
            format!("{host_subnet}host: m\nhostIP: 192.168.1.1\nsubnet: 10.128.0.0/23\n"),
            "x.yaml, document 1, line 4: HostSubnet n: host: \"m\" must equal metadata.name: write \"n\"",
        ),
        (
            format!("{host_subnet}host: n\nhostIP: fd00::1\nsubnet: 10.128.0.0/23\n"),
            "x.yaml, document 1, line 5: HostSubnet n: hostIP: \"fd00::1\" is no IPv4 address: write one such as 192.168.1.10",
        ),
        (
            format!("{host_subnet}host: n\nhostIP: 192.168.1.1\nsubnet: 10.128.0.5/23\n"),
            "x.yaml, document 1, line 6: HostSubnet n: subnet: \"10.128.0.5/23\" has host bits set: write 10.128.0.0/23",
        ),
        (
            format!("{host_subnet}host: n\nhostIP: 192.168.1.1\n"),
            "x.yaml, document 1, line 1: HostSubnet n: subnet: is missing: name the node's network, or set the annotation \
             pod.network.openshift.io/assign-subnet to be given one",
        ),
        (
            format!(
                "{}host: n\nhostIP: 192.168.1.1\nsubnet: 10.128.0.0/23\n",
                host_subnet
                    .replace("{name: n}", "{name: n, annotations: {pod.network.openshift.io/fixed-vnid-host: '16777216'}}")
            ),
            "x.yaml, document 1, line 3: HostSubnet n: metadata.annotations[pod.network.openshift.io/fixed-vnid-host]: \
             16777216 is no VNID: use 0 to 16777215",
        ),
        (
            format!("{host_subnet}host: n\nhostIP: 192.168.1.1\nsubnet: 10.128.0.0/23\negressCIDRs: [10.139.125.80/27]\n"),
            "x.yaml, document 1, line 7: HostSubnet n: egressCIDRs[0]: \"10.139.125.80/27\" has host bits set: write 10.139.125.64/27",
        ),
        (
            "apiVersion: network.openshift.io/v1\nkind: NetNamespace\nmetadata: {name: a}\nnetname: a\nnetid: 16777216\n".to_owned(),
            "x.yaml, document 1, line 5: NetNamespace a: netid: 16777216 is no VNID: use 0 to 16777215",
        ),
        (
            format!("{egress}  - {{type: AllowAll, to: {{cidrSelector: 0.0.0.0/0}}}}\n"),
            "x.yaml, document 1, line 6: EgressNetworkPolicy default/e: spec.egress[0].type: \"AllowAll\" is no rule type: use Allow or Deny",
        ),
        (
            format!("{egress}  - {{type: Allow, to: {{}}}}\n"),
            "x.yaml, document 1, line 6: EgressNetworkPolicy default/e: spec.egress[0].to: needs exactly one of cidrSelector and dnsName",
        ),
        (
            format!("{egress}  - {{type: Allow, to: {{dnsName: '*.example.com'}}}}\n"),
            "x.yaml, document 1, line 6: EgressNetworkPolicy default/e: spec.egress[0].to.dnsName: \"*.example.com\" is no DNS name: \
             use letters, digits, '-' and '.'; wildcards are not supported",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 172.30.0.1, ports: [{port: 0}]}\n".to_owned(),
            "x.yaml, document 1, line 4: Service default/s: spec.ports[0].port: 0 is no port: use 1 to 65535",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIP: 10.128.0}\n".to_owned(),
            "x.yaml, document 1, line 4: Pod default/p: status.podIP: \"10.128.0\" is no IP address: write one such as 10.128.0.5",
        ),
        (
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: p}\naddressType: IPv4\n\
             endpoints:\n- addresses: [\"fd00::1\"]\n"
                .to_owned(),
            "x.yaml, document 1, line 6: EndpointSlice default/p: endpoints[0].addresses[0]: \"fd00::1\" is no IPv4 address, which \
             addressType asks for",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelector: {}\n  ingress:\n  \
             - from:\n    - ipBlock: {cidr: 10.0.0.0/33}\n"
                .to_owned(),
            "x.yaml, document 1, line 8: NetworkPolicy default/p: spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is no network: \
             write one such as 10.1.0.0/16",
        ),
    ] {
        assert_eq!(problems(&text), [expected], "{text}");
    }
}

#[test]
fn networks() {
    const PREFIX: &str = "x.yaml, document 1, line 8: ClusterNetwork default: ";
    for (field, value, expected) in [
        (
            "pluginName",
            "redhat/openshift-ovs-foo",
            "pluginName: Unknown plugin name \"redhat/openshift-ovs-foo\": use one of redhat/openshift-ovs-subnet, \
             redhat/openshift-ovs-multitenant, redhat/openshift-ovs-networkpolicy",
        ),
        (
            "serviceNetwork",
            "172.30.1.0/16",
            "serviceNetwork: \"172.30.1.0/16\" has host bits set: write 172.30.0.0/16",
        ),
        (
            "serviceNetwork",
            "1172.30.0.0/16",
            "serviceNetwork: \"1172.30.0.0/16\" is no IPv4 network: write one such as 10.128.0.0/14",
        ),
        (
            "network",
            "10.128.0.0/15",
            "network: \"10.128.0.0/15\" must equal clusterNetworks[0].CIDR: write \"10.128.0.0/14\"",
        ),
        (
            "hostsubnetlength",
            "8",
            "hostsubnetlength: \"8\" must equal clusterNetworks[0].hostSubnetLength: write \"9\"",
        ),
    ] {
        assert_eq!(
            problems(&cluster_network(field, value)),
            [format!("{PREFIX}{expected}")],
            "{field}: {value}"
        );
    }
    let with = |cidrs: &str| {
        let text = cluster_network("clusterNetworks", cidrs);
        problems(&text).into_iter().map(|text| text.replace(PREFIX, "")).collect::<Vec<_>>()
    };
    assert_eq!(
        with(
            "[{CIDR: 10.128.0.0/14, hostSubnetLength: 9}, {CIDR: 10.130.0.0/16, hostSubnetLength: 17}, {CIDR: 172.16.0.0/12, hostSubnetLength: 1}]"
        ),
        [
            "clusterNetworks[1].hostSubnetLength: 17 host bits a node don't fit 10.130.0.0/16: use 2 to 16",
            "clusterNetworks[1].CIDR: 10.130.0.0/16 overlaps clusterNetworks[0].CIDR 10.128.0.0/14: choose networks that share no address",
            "clusterNetworks[2].hostSubnetLength: 1 host bits a node don't fit 172.16.0.0/12: use 2 to 20",
            "clusterNetworks[2].CIDR: 172.16.0.0/12 overlaps serviceNetwork 172.30.0.0/16: choose networks that share no address",
        ]
    );
    for (field, value, expected) in [
        ("vxlanPort", "0", "vxlanPort: 0 is no UDP port: use 1 to 65535, or leave it out for 4789"),
        ("vxlanPort", "65536", "vxlanPort: 65536 is no UDP port: use 1 to 65535, or leave it out for 4789"),
        (
            "mtu",
            "100",
            "mtu: 100 is no MTU for the pod network: use 576 to 65535 bytes, or leave it out for 1450",
        ),
    ] {
        let expected = format!("{PREFIX}{expected}").replace("line 8", "line 9");
        assert_eq!(problems(&cluster_network(field, value)), [expected], "{field}: {value}");
    }
}

#[test]
fn every_problem_of_every_file_at_once() {
    let dir = dir(&[
        ("a.yaml", NAMESPACE_A),
        ("b.yaml", &format!("a: [\n---\n{NAMESPACE_A}---\nkind: Pod\n")),
        ("c.yaml", "\u{0}"),
    ]);
    fs::write(dir.path().join("d.yaml"), b"a: \xff").unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("e.yaml")).unwrap();
    let text = load(dir.path()).unwrap_err().to_string();
    assert_eq!(
        text.replace(dir.path().to_str().unwrap(), "DIR"),
        "cluster directory DIR: 6 problems:
  b.yaml, document 1, line 1: this is no valid YAML: unclosed bracket '[' (column 4)
  b.yaml, document 2, line 3: Namespace a: is also in a.yaml, document 1, line 1: remove one of the two
  b.yaml, document 3, line 8: apiVersion: is missing: every object needs apiVersion and kind, such as v1 and Pod
  c.yaml, document 1, line 1: this is no valid YAML: unexpected character: `\\u{0}' (column 1)
  d.yaml: is no UTF-8 text (byte 3): save it as UTF-8
  e.yaml: is no regular file: remove it, or give it another name"
    );
}

#[test]
fn no_directory() {
    let dir = dir(&[("file", "")]);
    let text = |path: &Path| load(path).unwrap_err().to_string();
    let missing = dir.path().join("missing");
    assert_eq!(
        text(&missing),
        format!(
            "cluster directory {}: does not exist: create it, or name another with --cluster",
            missing.display()
        )
    );
    let file = dir.path().join("file");
    assert_eq!(
        text(&file),
        format!("cluster directory {}: is no directory: name one with --cluster", file.display())
    );
}
