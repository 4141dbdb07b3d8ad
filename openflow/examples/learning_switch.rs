//! A learning switch: learns where hosts are from the packets that they send, and installs a flow for each
//! conversation.
//!
//! ```sh
//! cargo run --example learning_switch -- unix:/var/run/openvswitch/br0.mgmt
//! cargo run --example learning_switch -- ptcp:6653:127.0.0.1   # the bridge connects to us
//! ```

use std::collections::HashMap;

use openflow::message::{PacketIn, PacketOut, SwitchConfig};
use openflow::{
    Action, Endpoint, Field, Flow, FlowMod, Instruction, Listener, MacAddr, Match, OfPort, Switch,
    SwitchEvent, SwitchOptions,
};

/// Seconds without packets after which a conversation's flow goes.
const IDLE_TIMEOUT: u16 = 60;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args().nth(1).ok_or("which switch? unix:PATH, tcp:HOST:PORT or ptcp:PORT")?;
    if place.starts_with('p') {
        let listener = Listener::bind(&place, SwitchOptions::default()).await?;
        loop {
            tokio::spawn(run(listener.accept().await?));
        }
    }
    run(Switch::connect(&place.parse::<Endpoint>()?).await?).await?;
    Ok(())
}

/// Serves one switch until it goes.
pub async fn run(switch: Switch) -> Result<(), openflow::ClientError> {
    let mut events = switch.events();
    // Open vSwitch sends packets over a management socket only once this is not 0.
    switch.set_config(SwitchConfig { miss_send_len: 0xffff, ..SwitchConfig::default() }).await?;
    let miss = Flow {
        priority: 0,
        instructions: [Instruction::ApplyActions(vec![Action::Controller(Default::default())])].into(),
        ..Flow::default()
    };
    if let Err(error) = switch.bundle(vec![FlowMod::add(miss).into()]).await {
        eprintln!("cannot install the first flow: {error}");
    }
    let mut hosts = HashMap::new();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(SwitchEvent::PacketIn(packet)) => forward(&switch, &mut hosts, packet).await?,
                Some(_) => {}
                None => return Ok(()),
            },
            reason = switch.closed() => return Err(reason),
        }
    }
}

/// Learns from a packet and sends it on: to its port if that is known, else everywhere.
async fn forward(
    switch: &Switch,
    hosts: &mut HashMap<MacAddr, OfPort>,
    packet: PacketIn,
) -> Result<(), openflow::ClientError> {
    let (Some(dst), Some(src)) = (mac(&packet.data, 0), mac(&packet.data, 6)) else { return Ok(()) };
    let Some(in_port) = packet.fields.exact(Field::IN_PORT).map(|port| OfPort(port as u32)) else {
        return Ok(());
    };
    hosts.insert(src, in_port);
    let out = match hosts.get(&dst) {
        Some(port) if *port != in_port => *port,
        _ => OfPort::FLOOD,
    };
    if out != OfPort::FLOOD {
        let flow = Flow {
            priority: 100,
            idle_timeout: IDLE_TIMEOUT,
            fields: Match::new()
                .with(Field::IN_PORT, in_port)
                .with(Field::ETH_SRC, src)
                .with(Field::ETH_DST, dst),
            instructions: [Instruction::ApplyActions(vec![Action::Output(out)])].into(),
            ..Flow::default()
        };
        switch.send(&openflow::Message::FlowMod(FlowMod::add(flow))).await?;
    }
    switch.packet_out(PacketOut::new(in_port, vec![Action::Output(out)], packet.data)).await
}

/// The address at an offset of an Ethernet frame.
fn mac(frame: &[u8], at: usize) -> Option<MacAddr> {
    frame.get(at..at + 6)?.try_into().ok().map(MacAddr)
}
