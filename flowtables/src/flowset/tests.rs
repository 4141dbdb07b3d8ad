use openflow::Flow;

use super::diff::diff;
use super::*;
use crate::pipeline::vnid::Vnid;

fn flow(text: &str) -> Flow {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn tenant(n: u32) -> Owner {
    Owner::Tenant(Vnid::try_from(n).unwrap())
}

fn texts<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Vec<String> {
    flows.into_iter().map(|flow| flow.to_string().trim().to_owned()).collect()
}

#[test]
fn a_table_is_read_by_descending_priority() {
    let mut set = FlowSet::new();
    set.replace(
        &Owner::Base,
        vec![
            flow("table=1,priority=1,actions=drop"),
            flow("table=0,priority=5,ip,actions=drop"),
            flow("table=1,priority=9,arp,actions=drop"),
            flow("table=2,priority=9,actions=drop"),
        ],
    );
    let priorities: Vec<u16> = set.table(1).map(|(flow, _)| flow.priority).collect();
    assert_eq!(priorities, [9, 1]);
    assert_eq!(set.table(3).count(), 0);
}

#[test]
fn replacing_touches_one_owner_only() {
    let mut set = FlowSet::new();
    set.replace(&tenant(1), vec![flow("table=1,reg0=1,actions=drop"), flow("table=1,reg1=1,actions=drop")]);
    set.replace(&tenant(2), vec![flow("table=1,reg0=2,actions=drop")]);
    assert!(set.replace(&tenant(1), vec![flow("table=1,reg0=1,actions=output:1")]).is_empty());
    assert_eq!(set.len(), 2);
    set.remove(&tenant(1));
    assert_eq!(set.owners(), BTreeSet::from([&tenant(2)]));
    assert_eq!(set.len(), 1);
}

#[test]
fn the_first_owner_keeps_a_contested_flow() {
    let mut set = FlowSet::new();
    set.replace(&tenant(1), vec![flow("table=1,reg0=1,actions=output:1")]);
    let conflicts = set.replace(&tenant(2), vec![flow("table=1,reg0=1,actions=output:2")]);
    assert_eq!(
        conflicts.first().unwrap().to_string(),
        "tenant 2 and tenant 1 both want table=1 priority=32768, reg0=0x1; tenant 1 keeps it"
    );
    assert_eq!(set.table(1).next().unwrap().1, &tenant(1));
    set.remove(&tenant(2));
    assert_eq!(set.len(), 1, "the loser owns nothing of it");
}

#[test]
fn diff_names_missing_extra_and_changed() {
    let mut desired = FlowSet::new();
    desired.replace(
        &Owner::Base,
        vec![
            flow("cookie=1,table=1,reg0=1,actions=output:1"),
            flow("cookie=1,table=1,reg0=2,actions=drop"),
            flow("cookie=1,table=1,reg0=3,actions=output:3"),
            flow("cookie=1,table=5,reg0=3,actions=output:3"),
            flow("cookie=1,table=1,reg0=4,actions=drop"),
        ],
    );
    let actual = [
        flow("cookie=1,table=1,reg0=1,actions=output:1"),
        flow("cookie=1,table=1,reg0=2,actions=output:9"),
        flow("cookie=2,table=1,reg0=4,actions=drop"),
        flow("table=1,reg0=7,actions=output:7"),
    ];
    let diff = diff(&actual, &desired);
    assert_eq!(diff.missing.len(), 2);
    assert_eq!(texts(&diff.extra), ["table=1, reg0=0x7 actions=output:7"]);
    assert_eq!(diff.changed.len(), 2, "other actions, other cookie: {:?}", diff.changed);
    let order: Vec<u8> = diff.modifications().iter().map(|m| m.flow.table).collect();
    // Drops of reg0 2 and 4, the deletion, then table 5 before table 1.
    assert_eq!(order, [1, 1, 1, 5, 1]);
}

#[test]
fn what_differs_is_closed_before_anything_is_opened() {
    let mut desired = FlowSet::new();
    desired.replace(
        &Owner::Base,
        vec![
            flow("table=1,priority=0,actions=goto_table:2"),
            flow("table=1,priority=9,reg0=1,actions=output:2"),
            flow("table=1,priority=9,reg0=2,actions=output:2"),
            flow("table=1,priority=9,reg0=3,actions=drop"),
            flow("table=1,priority=9,reg0=4,actions=output:4"),
            flow("table=2,priority=9,reg0=1,actions=output:2"),
        ],
    );
    let actual = [
        flow("table=1,priority=0,actions=goto_table:2"),
        flow("table=1,priority=9,reg0=1,actions=output:1"),
        flow("table=1,priority=9,reg0=3,actions=output:1"),
        flow("cookie=7,table=1,priority=9,reg0=4,actions=output:4"),
        flow("table=1,priority=9,reg0=5,actions=output:1"),
        flow("table=1,priority=9,reg0=6,actions=drop"),
        flow("table=2,priority=9,reg0=5,actions=output:1"),
    ];
    let modifications = diff(&actual, &desired).modifications();
    let words: Vec<String> =
        modifications.iter().map(|m| format!("{:?} {}", m.command, m.flow.to_string().trim())).collect();
    assert_eq!(
        words,
        [
            "Add table=1, priority=9,reg0=0x2 actions=drop",
            "Add table=1, priority=9,reg0=0x1 actions=drop",
            "Add table=1, priority=9,reg0=0x3 actions=drop",
            "Add table=1, priority=9,reg0=0x5 actions=drop",
            "DeleteStrict table=2, priority=9,reg0=0x5 actions=drop",
            "Add table=2, priority=9,reg0=0x1 actions=output:2",
            "Add table=1, priority=9,reg0=0x2 actions=output:2",
            "Add table=1, priority=9,reg0=0x1 actions=output:2",
            "Add table=1, priority=9,reg0=0x4 actions=output:4",
            "DeleteStrict table=1, priority=9,reg0=0x5 actions=drop",
            "DeleteStrict table=1, priority=9,reg0=0x6 actions=drop",
        ]
    );
}

#[test]
fn a_set_does_not_differ_from_itself() {
    let mut set = FlowSet::new();
    set.replace(&Owner::Base, vec![flow("table=1,reg0=1,actions=output:1"), flow("priority=3,actions=drop")]);
    assert!(diff(set.iter(), &set).is_empty());
}

fn group(id: u32, ports: &[u32]) -> Group {
    let bucket = |&port: &u32| openflow::Bucket {
        weight: 1,
        actions: vec![openflow::Action::Output(openflow::OfPort(port))],
        ..openflow::Bucket::default()
    };
    Group { id, kind: openflow::GroupType::Select, buckets: ports.iter().map(bucket).collect() }
}

#[test]
fn groups_come_and_go_with_their_owner() {
    let mut set = FlowSet::new();
    let using = |id: u32| vec![flow(&format!("table=1,reg0={id},actions=group:{id}"))];
    let rendered = |id, ports: &[u32]| Rendered { flows: using(id), groups: vec![group(id, ports)] };
    set.replace(&tenant(1), rendered(1, &[1, 2]));
    set.replace(&tenant(2), rendered(2, &[1]));
    assert_eq!(set.group(1), Some(&group(1, &[1, 2])));

    let conflicts = set.replace(&tenant(3), rendered(2, &[3]));
    let words: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    let expected = [
        "tenant 3 and tenant 2 both want table=1 priority=32768, reg0=0x2; tenant 2 keeps it",
        "tenant 3 and tenant 2 both want group 2; tenant 2 keeps it",
    ];
    assert_eq!(words, expected);
    set.replace(&tenant(2), using(7));
    assert_eq!(set.groups().map(|group| group.id).collect::<Vec<_>>(), [1]);
}

#[test]
fn groups_are_there_before_the_flows_that_use_them_and_go_after() {
    let mut set = FlowSet::new();
    let groups = vec![group(1, &[1]), group(2, &[1, 2]), group(3, &[1])];
    set.replace(&tenant(1), Rendered { flows: Vec::new(), groups });
    let diff = groups::diff(&[group(2, &[1]), group(3, &[1]), group(9, &[1])], &set);
    let words = |mods: Vec<openflow::GroupMod>| mods.iter().map(ToString::to_string).collect::<Vec<_>>();
    let before = ["ADD group_id=1,type=select,bucket=actions=output:1", "MOD group_id=2,type=select"];
    assert_eq!(words(diff.before_flows()), before);
    let after = [
        "MOD group_id=2,type=select,bucket=actions=output:1,bucket=actions=output:2",
        "DEL group_id=9,type=all",
    ];
    assert_eq!(words(diff.after_flows()), after);
    assert_eq!(diff.len(), 3);
    assert!(groups::diff(set.groups(), &set).is_empty());
}

/// The flows of a set as they lie in memory.
fn addresses(set: &FlowSet) -> BTreeSet<*const Flow> {
    set.iter().map(std::ptr::from_ref).collect()
}

#[test]
fn a_change_touches_no_flow_of_another_owner() {
    let flows = |n: u32| {
        vec![flow(&format!("table=1,reg0={n},actions=drop")), flow(&format!("reg1={n},actions=drop"))]
    };
    let mut set = FlowSet::new();
    for n in 0..50 {
        set.replace(&tenant(n), flows(n));
    }
    // Copies keep what they share, so that no address is used again.
    let before = set.clone();
    set.replace(&tenant(50), flows(50));
    let added = set.clone();
    set.replace(&tenant(7), flows(77));
    let [before, added, replaced] = [&before, &added, &set].map(addresses);
    assert_eq!((before.difference(&added).count(), added.difference(&before).count()), (0, 2));
    assert_eq!((added.difference(&replaced).count(), replaced.difference(&added).count()), (2, 2));
}

#[test]
fn of_an_owners_own_flows_the_last_counts() {
    let mut set = FlowSet::new();
    let flows = ["reg0=1,actions=output:1", "reg0=2,actions=drop", "reg0=1,actions=output:2"];
    assert_eq!(set.replace(&Owner::Base, flows.map(flow).to_vec()), []);
    assert_eq!(texts(set.iter()), ["reg0=0x1 actions=output:2", "reg0=0x2 actions=drop"]);
    set.remove(&Owner::Base);
    assert!(set.is_empty());
}

mod search {
    use openflow::Field;
    use proptest::prelude::*;

    use super::*;

    /// Tests of few bits of few fields, so that packets hit often and shapes come and go.
    fn any_flow() -> impl Strategy<Value = Flow> {
        let tests = prop::collection::vec((0u8..3, 0u32..4, prop_oneof![Just(3u32), Just(1), Just(2)]), 0..3);
        (0u8..2, 0u16..4, tests).prop_map(|(table, priority, tests)| {
            let fields = tests.into_iter().fold(openflow::Match::new(), |fields, (n, value, mask)| {
                fields.with_masked(Field::reg(n).unwrap(), value, mask)
            });
            Flow { table, priority, fields, ..Flow::default() }
        })
    }

    proptest! {
        #[test]
        fn finds_what_trying_every_flow_finds(
            changes in prop::collection::vec((0u32..6, prop::collection::vec(any_flow(), 0..8)), 1..12),
            packet in [0u32..4, 0..4, 0..4],
        ) {
            let mut set = FlowSet::new();
            for (owner, flows) in changes {
                set.replace(&tenant(owner), flows);
            }
            let value = |field: Field| {
                (0..3).find(|&n| Field::reg(n) == Some(field)).map_or(0, |n| packet[usize::from(n)].into())
            };
            for table in 0..2 {
                let holds = |flow: &Flow| flow.fields.iter().all(|(f, v, m)| value(f) & m == v);
                let tried: Vec<&Flow> = set.table(table).map(|(flow, _)| flow).filter(|flow| holds(flow)).collect();
                let mut all = Vec::new();
                set.matching(table, value, |flow, _| {
                    all.push(flow);
                    0
                });
                all.sort_unstable_by_key(|flow| FlowKey::of(flow));
                prop_assert_eq!(&all, &tried);

                // Where only the best are asked for, those of the greatest priority are among the answers.
                let mut best = Vec::new();
                set.matching(table, value, |flow, _| {
                    best.push(flow);
                    flow.priority
                });
                let most = tried.first().map(|flow| flow.priority);
                best.retain(|flow| Some(flow.priority) == most);
                best.sort_unstable_by_key(|flow| FlowKey::of(flow));
                let expected: Vec<&Flow> = tried.into_iter().filter(|flow| Some(flow.priority) == most).collect();
                prop_assert_eq!(best, expected);
                prop_assert!(set.iter().all(|flow| set.get(flow) == Some(flow)));
            }
        }
    }
}
