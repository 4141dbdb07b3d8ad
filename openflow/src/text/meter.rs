//! Meters, both ways: what `ovs-ofctl add-meter` takes and `ovs-ofctl dump-meters` prints.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::error::ParseError;
use super::lexer::{Delimiter, Item, Text, items};
use super::value::{number_u8, number_u32};
use crate::message::{Meter, MeterBand, MeterFlags, MeterMod, MeterModCommand};

/// Flags in the order in which they print, with their names.
const FLAG_NAMES: [(u16, &str); 4] = [
    (MeterFlags::KBPS, "kbps"),
    (MeterFlags::PKTPS, "pktps"),
    (MeterFlags::BURST, "burst"),
    (MeterFlags::STATS, "stats"),
];
/// Meters of the switch itself, by name.
const VIRTUAL: [(u32, &str); 3] =
    [(Meter::SLOWPATH, "slowpath"), (Meter::CONTROLLER, "controller"), (Meter::ALL, "all")];

impl FromStr for Meter {
    type Err = ParseError;

    /// Parses what `ovs-ofctl add-meter` takes, and what `ovs-ofctl dump-meters` prints:
    /// `meter=1 kbps burst bands=type=drop rate=1000 burst_size=100`.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        parse(Text::new(s), true).map_err(|error| error.with_input(s))
    }
}

impl MeterMod {
    /// Parses the argument of `ovs-ofctl add-meter`, `mod-meter` or `del-meter` for a command.
    ///
    /// # Errors
    /// Says which word is wrong and what was expected.
    pub fn parse(command: MeterModCommand, s: &str) -> Result<MeterMod, ParseError> {
        let meter = parse(Text::new(s), command != MeterModCommand::Delete);
        Ok(MeterMod { command, meter: meter.map_err(|error| error.with_input(s))? })
    }
}

/// Where something is missing: at the end.
fn end(text: Text<'_>) -> Text<'_> {
    text.skip(usize::MAX)
}

fn parse(text: Text<'_>, whole: bool) -> Result<Meter, ParseError> {
    let (mut id, mut flags) = (None, 0);
    let mut bands: Option<Vec<Band<'_>>> = None;
    for item in items(text)? {
        match (item.key.as_str(), &mut bands) {
            ("band" | "bands", None) if whole => {
                let mut list = Vec::new();
                for item in items(item.value)? {
                    Band::take(&mut list, &item)?;
                }
                bands = Some(list);
            }
            (_, Some(bands)) => Band::take(bands, &item)?,
            ("meter", None) => id = Some(meter_id(item.required()?)?),
            (key, None) => match FLAG_NAMES.iter().find(|(_, name)| *name == key) {
                Some((flag, _)) if whole && item.delimiter == Delimiter::None => flags |= flag,
                _ => return Err(item.key.error(expected_of(whole, key))),
            },
        }
    }
    let id = id.ok_or_else(|| end(text).error("expected meter=NUMBER"))?;
    if !whole {
        return Ok(Meter { id, ..Meter::default() });
    }
    if flags & (MeterFlags::KBPS | MeterFlags::PKTPS) == 0 {
        return Err(end(text).error("expected kbps or pktps: the unit of the rates"));
    }
    let bands = bands.ok_or_else(|| end(text).error("expected bands=type=... and what each does"))?;
    if bands.is_empty() {
        return Err(end(text).error("expected at least one band: type=drop or type=dscp_remark"));
    }
    let bands = bands.into_iter().map(|band| band.finish(flags)).collect::<Result<_, _>>()?;
    Ok(Meter { id, flags: MeterFlags(flags), bands })
}

fn expected_of(whole: bool, found: &str) -> String {
    match whole {
        true => format!("expected meter=, kbps, pktps, burst, stats or bands=, found `{found}`"),
        false => format!("expected meter=, found `{found}`"),
    }
}

fn meter_id(text: Text<'_>) -> Result<u32, ParseError> {
    if let Some((id, _)) = VIRTUAL.iter().find(|(_, name)| *name == text.as_str()) {
        return Ok(*id);
    }
    match number_u32(text) {
        Ok(id @ 1..=Meter::MAX) => Ok(id),
        Ok(_) => Err(text.error("a meter goes from 1 to 4294901760")),
        Err(_) => Err(text.error("expected a number, controller, slowpath or all")),
    }
}

/// A band in the making.
struct Band<'a> {
    is_drop: bool,
    kind: Text<'a>,
    rate: u32,
    burst: Option<(u32, Text<'a>)>,
    precedence: Option<(u8, Text<'a>)>,
}

impl<'a> Band<'a> {
    fn take(bands: &mut Vec<Band<'a>>, item: &Item<'a>) -> Result<(), ParseError> {
        let key = item.key.as_str();
        let value = || item.required();
        if key == "type" {
            let kind = value()?;
            let is_drop = match kind.as_str() {
                "drop" => true,
                "dscp_remark" => false,
                _ => return Err(kind.error("expected drop or dscp_remark")),
            };
            bands.push(Band { is_drop, kind: item.whole, rate: 0, burst: None, precedence: None });
            return Ok(());
        }
        let Some(band) = bands.last_mut() else {
            return Err(item.key.error("a band starts with type=drop or type=dscp_remark"));
        };
        match key {
            "rate" => band.rate = number_u32(value()?)?,
            "burst_size" => band.burst = Some((number_u32(value()?)?, item.whole)),
            "prec_level" => band.precedence = Some((number_u8(value()?)?, item.whole)),
            _ => {
                let expected = "expected type=, rate=, burst_size= or prec_level=";
                return Err(item.key.error(format!("{expected}, found `{key}`")));
            }
        }
        Ok(())
    }

    fn finish(self, flags: u16) -> Result<MeterBand, ParseError> {
        let rate = self.rate;
        if rate == 0 {
            return Err(self.kind.error("this band has no rate="));
        }
        let burst = match (self.burst, flags & MeterFlags::BURST != 0) {
            (Some((1.., text)), false) => {
                return Err(text.error("burst_size needs the word `burst` before the bands"));
            }
            (None | Some((0, _)), true) => {
                return Err(self.kind.error("this band has no burst_size=, and the meter says `burst`"));
            }
            (burst, _) => burst.map_or(0, |(burst, _)| burst),
        };
        match (self.is_drop, self.precedence) {
            (true, Some((1.., text))) => Err(text.error("only dscp_remark has a prec_level")),
            (true, _) => Ok(MeterBand::Drop { rate, burst }),
            (false, Some((precedence @ 1.., _))) => Ok(MeterBand::DscpRemark { rate, burst, precedence }),
            (false, _) => Err(self.kind.error("this dscp_remark has no prec_level=")),
        }
    }
}

/// `1`, `controller`.
pub(super) struct MeterId(pub(super) u32);

impl fmt::Display for MeterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match VIRTUAL.iter().find(|(id, _)| *id == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Flags, each with a space after it.
pub(super) fn write_flags(f: &mut impl Write, flags: u16) -> fmt::Result {
    let mut rest = flags;
    for (flag, name) in FLAG_NAMES {
        if flags & flag != 0 {
            write!(f, "{name} ")?;
            rest &= !flag;
        }
    }
    if rest == 0 { Ok(()) } else { write!(f, "flags:{rest:#x} ") }
}

/// With `before` each band: a space, or a line break as Open vSwitch has it.
pub(super) fn write_meter(f: &mut impl Write, meter: &Meter, before: char) -> fmt::Result {
    write!(f, "meter={} ", MeterId(meter.id))?;
    write_flags(f, meter.flags.0)?;
    f.write_str("bands=")?;
    for (n, band) in meter.bands.iter().enumerate() {
        if n > 0 || before == '\n' {
            f.write_char(before)?;
        }
        let (rate, burst) = match band {
            MeterBand::Drop { rate, burst } => {
                f.write_str("type=drop")?;
                (*rate, *burst)
            }
            MeterBand::DscpRemark { rate, burst, .. } => {
                f.write_str("type=dscp_remark")?;
                (*rate, *burst)
            }
            MeterBand::Unknown { kind, .. } => {
                write!(f, "type={kind}")?;
                continue;
            }
        };
        write!(f, " rate={rate}")?;
        if meter.flags.0 & MeterFlags::BURST != 0 {
            write!(f, " burst_size={burst}")?;
        }
        if let MeterBand::DscpRemark { precedence, .. } = band {
            write!(f, " prec_level={precedence}")?;
        }
    }
    Ok(())
}

/// One line as `ovs-ofctl add-meter` takes it.
///
/// ```
/// use openflow::message::Meter;
/// let meter: Meter = "meter=1,kbps,burst,bands=type=drop,rate=1000,burst_size=100".parse()?;
/// assert_eq!(meter.to_string(), "meter=1 kbps burst bands=type=drop rate=1000 burst_size=100");
/// # Ok::<(), openflow::ParseError>(())
/// ```
impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_meter(f, self, ' ')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_at_the_word() {
        for (text, at, message) in [
            ("meter=0 kbps band=type=drop rate=1", "0", "a meter goes from 1 to 4294901760"),
            ("meter=x kbps band=type=drop rate=1", "x", "expected a number, controller, slowpath or all"),
            ("meter=1 band=type=drop rate=1", "", "expected kbps or pktps: the unit of the rates"),
            ("kbps band=type=drop rate=1", "", "expected meter=NUMBER"),
            ("meter=1 kbps", "", "expected bands=type=... and what each does"),
            ("meter=1 kbps bands=", "", "expected at least one band: type=drop or type=dscp_remark"),
            ("meter=1 kbps band=rate=5", "rate", "a band starts with type=drop or type=dscp_remark"),
            ("meter=1 kbps band=type=shape rate=5", "shape", "expected drop or dscp_remark"),
            ("meter=1 kbps band=type=drop", "type=drop", "this band has no rate="),
            ("meter=1 kbps band=type=drop rate=x", "x", "expected a number, found `x`"),
            (
                "meter=1 kbps,burst band=type=drop rate=5",
                "type=drop",
                "this band has no burst_size=, and the meter says `burst`",
            ),
            (
                "meter=1 kbps band=type=drop rate=5 burst_size=9",
                "burst_size=9",
                "burst_size needs the word `burst` before the bands",
            ),
            (
                "meter=1 kbps band=type=drop rate=5 prec_level=9",
                "prec_level=9",
                "only dscp_remark has a prec_level",
            ),
            (
                "meter=1 kbps band=type=dscp_remark rate=5",
                "type=dscp_remark",
                "this dscp_remark has no prec_level=",
            ),
            (
                "meter=1 kbps color band=type=drop rate=5",
                "color",
                "expected meter=, kbps, pktps, burst, stats or bands=, found `color`",
            ),
            (
                "meter=1 kbps band=type=drop size=5",
                "size",
                "expected type=, rate=, burst_size= or prec_level=, found `size`",
            ),
        ] {
            let error = text.parse::<Meter>().unwrap_err();
            assert_eq!((&text[error.span()], error.message()), (at, message), "{text}");
        }
        let error = MeterMod::parse(MeterModCommand::Delete, "meter=3,kbps").unwrap_err();
        assert_eq!(error.to_string(), "column 9: expected meter=, found `kbps`");
    }
}
