//! Encoding a flow-mod into a buffer that is used again allocates nothing.
#![allow(unsafe_code)] // A counting allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use openflow::{Envelope, Flow, FlowMod, Message};

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
