//! Queues (OF1.3.5 §7.2.2, §7.3.6).

use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// `OFPT_QUEUE_GET_CONFIG_REPLY`: the queues of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueConfig {
    /// The port that was asked for.
    pub port: OfPort,
    /// Its queues.
    pub queues: Vec<Queue>,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Its number.
    pub id: u32,
    /// Its port.
    pub port: OfPort,
    /// How it is set up.
    pub properties: Vec<QueueProperty>,
}

/// `OFPQT_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueProperty {
    /// Guaranteed rate in tenths of a percent; above 1000 there is none.
    MinRate(u16),
    /// Rate limit in tenths of a percent; above 1000 there is none.
    MaxRate(u16),
    /// A property that we don't know.
    Unknown {
        /// Type.
        kind: u16,
        /// What follows its header of 8 bytes.
        body: Vec<u8>,
    },
}

const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;

impl QueueConfig {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.port.0);
        w.zeros(4);
        for queue in &self.queues {
            let start = w.len();
            w.u32(queue.id);
            w.u32(queue.port.0);
            w.u16(0);
            w.zeros(6);
            queue.properties.iter().for_each(|property| property.put(w));
            w.patch_len(start + 8, start, "ofp_packet_queue");
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let port = OfPort(r.u32()?);
        r.skip(4)?;
        let mut queues = Vec::new();
        while !r.is_empty() {
            r.enter("ofp_packet_queue");
            let (id, port) = (r.u32()?, OfPort(r.u32()?));
            let len = r.u16()?;
            r.skip(6)?;
            let mut body = r.sub(r.body_len(len, 16)?, "ofp_queue_prop")?;
            let mut properties = Vec::new();
            while !body.is_empty() {
                properties.push(QueueProperty::take(&mut body)?);
            }
            queues.push(Queue { id, port, properties });
        }
        Ok(QueueConfig { port, queues })
    }
}

impl QueueProperty {
    fn put(&self, w: &mut Writer<'_>) {
        let start = w.len();
        let kind = match self {
            QueueProperty::MinRate(_) => MIN_RATE,
            QueueProperty::MaxRate(_) => MAX_RATE,
            QueueProperty::Unknown { kind, .. } => *kind,
        };
        w.u16(kind);
        w.u16(0);
        w.zeros(4);
        match self {
            QueueProperty::MinRate(rate) | QueueProperty::MaxRate(rate) => {
                w.u16(*rate);
                w.zeros(6);
            }
            QueueProperty::Unknown { body, .. } => w.bytes(body),
        }
        w.patch_len(start + 2, start, "ofp_queue_prop");
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, len) = (r.u16()?, r.u16()?);
        r.skip(4)?;
        let mut body = r.sub(r.body_len(len, 8)?, "ofp_queue_prop")?;
        match kind {
            MIN_RATE => Ok(QueueProperty::MinRate(body.u16()?)),
            MAX_RATE => Ok(QueueProperty::MaxRate(body.u16()?)),
            kind => Ok(QueueProperty::Unknown { kind, body: body.rest().to_vec() }),
        }
    }
}
