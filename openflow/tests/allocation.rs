//! Encoding a flow-mod into a buffer that is used again allocates nothing, nor does reading a dump flow by flow.
#![allow(unsafe_code)] // A counting allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use openflow::{Envelope, Flow, FlowMod, FlowStats, FlowStatsReader, Message, MultipartReply};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn encoding_into_a_used_buffer_allocates_nothing() {
    let flow: Flow = "table=20,priority=100,ip,in_port=3,nw_src=10.0.0.1 \
                      actions=load:5->NXM_NX_REG0[],ct(commit,exec(set_field:1->ct_mark)),\
                      learn(table=1,NXM_OF_ETH_DST[]),goto_table:21"
        .parse()
        .expect("the flow parses");
    let envelope = Envelope::new(1, Message::FlowMod(FlowMod::add(flow)));
    let mut buffer = BytesMut::with_capacity(4096);
    assert!(envelope.encode(&mut buffer).is_ok());
    let before = COUNT.get();
    for _ in 0..100 {
        buffer.clear();
        assert!(envelope.encode(&mut buffer).is_ok());
    }
    assert_eq!(COUNT.get(), before);
}

#[test]
fn reading_flow_by_flow_allocates_for_the_first_only() {
    let flows = [
        "table=70,ip,nw_dst=10.128.3.4 actions=load:5->NXM_NX_REG1[],load:7->NXM_NX_REG2[],goto_table:80",
        "table=70,ip,nw_dst=10.128.3.5 actions=load:5->NXM_NX_REG1[],goto_table:80",
        "table=80,reg1=5 actions=output:7",
        "table=80,arp actions=drop",
        "table=80,ip,in_port=3 actions=goto_table:90",
        "table=80,ip,in_port=4 actions=set_field:0a:58:0a:80:03:04->eth_dst,dec_ttl",
    ];
    let stats = |text: &&str| FlowStats { flow: text.parse().expect("it parses"), ..FlowStats::default() };
    let stats: Vec<FlowStats> = flows.iter().map(stats).collect();
    let many = stats.iter().cycle().take(20 * stats.len()).cloned().collect();
    let message = Message::MultipartReply { more: false, reply: MultipartReply::Flow(many) };
    let mut bytes = BytesMut::new();
    Envelope::new(1, message).encode(&mut bytes).expect("it fits");

    let mut reader = FlowStatsReader::open(&bytes).expect("it is right").expect("it has flows");
    reader.next().expect("it is right");
    let before = COUNT.get();
    let mut count = 1;
    while let Some(read) = reader.next().expect("it is right") {
        assert_eq!(read, &stats[count % stats.len()]);
        count += 1;
    }
    assert_eq!((count, COUNT.get()), (20 * stats.len(), before));
}
