//! Encode, decode and text of a typical pod flow.

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use openflow::{Envelope, Flow, FlowMod, Message};
use std::hint::black_box;

const FLOW: &str = "table=70,priority=100,cookie=0x1234,ip,nw_dst=10.128.3.4 \
                    actions=load:0x82f8b2->NXM_NX_REG1[],load:0x7->NXM_NX_REG2[],goto_table:80";

fn codec(c: &mut Criterion) {
    let flow: Flow = FLOW.parse().expect("the flow above parses");
    let envelope = Envelope::new(7, Message::FlowMod(FlowMod::add(flow.clone())));
    let mut buffer = BytesMut::with_capacity(4096);
    envelope.encode(&mut buffer).expect("the flow fits into a message");
    let bytes = buffer.clone();

    let mut group = c.benchmark_group("flow-mod");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode", |b| {
        b.iter(|| {
            buffer.clear();
            black_box(&envelope).encode(&mut buffer)
        });
    });
    group.bench_function("decode", |b| b.iter(|| Envelope::decode(black_box(&bytes))));
    group.bench_function("print", |b| b.iter(|| black_box(&flow).to_string()));
    group.bench_function("parse", |b| b.iter(|| black_box(FLOW).parse::<Flow>()));
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
