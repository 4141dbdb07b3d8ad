//! Parsing the `learn` action.

use super::error::ParseError;
use super::lexer::{Delimiter, Item, Text, items};
use super::parse_action::{Context, action_field, constant, subfield};
use super::value::{number_u16, number_u32, number_u64, value_and_mask};
use crate::action::{Action, Learn, LearnDestination, LearnSource, LearnSpec, Subfield};
use crate::field::Field;

pub(super) fn parse_learn(item: &Item<'_>, _context: Context<'_>) -> Result<Action, ParseError> {
    let mut learn = Learn::default();
    for arg in items(item.value)? {
        match arg.key.as_str() {
            "table" => {
                let text = arg.required()?;
                learn.table = text.table()?;
                if learn.table == 255 {
                    return Err(text.error("a table goes from 0 to 254"));
                }
            }
            "priority" => learn.priority = number_u16(arg.required()?)?,
            "idle_timeout" => learn.idle_timeout = number_u16(arg.required()?)?,
            "hard_timeout" => learn.hard_timeout = number_u16(arg.required()?)?,
            "fin_idle_timeout" => learn.fin_idle_timeout = number_u16(arg.required()?)?,
            "fin_hard_timeout" => learn.fin_hard_timeout = number_u16(arg.required()?)?,
            "cookie" => learn.cookie = number_u64(arg.required()?)?,
            "limit" => learn.limit = number_u32(arg.required()?)?,
            "send_flow_rem" => learn.send_flow_rem = true,
            "delete_learned" => learn.delete_learned = true,
            "result_dst" => {
                let text = arg.required()?;
                let dst = subfield(text)?;
                if dst.n_bits != 1 {
                    return Err(text.error("result_dst is one bit"));
                }
                learn.result_dst = Some(dst);
            }
            "load" => learn.specs.push(parse_load(arg.required()?)?),
            "output" => {
                let src = subfield(arg.required()?)?;
                learn.specs.push(LearnSpec {
                    src: LearnSource::Field(src),
                    dst: LearnDestination::Output,
                    n_bits: src.n_bits,
                });
            }
            _ => learn.specs.push(parse_match_spec(&arg)?),
        }
    }
    Ok(Action::Learn(Box::new(learn)))
}

fn parse_load(text: Text<'_>) -> Result<LearnSpec, ParseError> {
    let (src_text, dst) =
        text.split_once_str("->").ok_or_else(|| text.error("expected `->` and where to"))?;
    let dst = subfield(dst)?;
    let starts_with_digit = src_text.as_str().starts_with(|c: char| c.is_ascii_digit());
    let src = if starts_with_digit {
        LearnSource::Value(constant(src_text, dst.n_bits)?)
    } else {
        LearnSource::Field(same_width(src_text, dst)?)
    };
    Ok(LearnSpec { src, dst: LearnDestination::Load(dst), n_bits: dst.n_bits })
}

fn same_width(text: Text<'_>, dst: Subfield) -> Result<Subfield, ParseError> {
    let src = subfield(text)?;
    if src.n_bits != dst.n_bits {
        return Err(text.error(format!("{} bits do not match {} bits", src.n_bits, dst.n_bits)));
    }
    Ok(src)
}

/// `FIELD=VALUE`, `FIELD[a..b]=FIELD[c..d]` or `FIELD[a..b]`.
fn parse_match_spec(arg: &Item<'_>) -> Result<LearnSpec, ParseError> {
    let field_and_value = |field: Field, text: Text<'_>| -> Result<LearnSpec, ParseError> {
        let (value, mask) = value_and_mask(field, text)?;
        if mask != field.full_mask() {
            return Err(text.error("no mask is allowed here"));
        }
        let dst = Subfield::whole(field);
        Ok(LearnSpec {
            src: LearnSource::Value(value),
            dst: LearnDestination::Match(dst),
            n_bits: dst.n_bits,
        })
    };
    if arg.delimiter == Delimiter::None {
        let dst = subfield(arg.key)?;
        return Ok(LearnSpec {
            src: LearnSource::Field(dst),
            dst: LearnDestination::Match(dst),
            n_bits: dst.n_bits,
        });
    }
    let value = arg.required()?;
    let dst = subfield(arg.key)?;
    let starts_like_field = value.as_str().contains('[') || action_field(value).is_ok();
    if starts_like_field {
        let src = same_width(value, dst)?;
        return Ok(LearnSpec {
            src: LearnSource::Field(src),
            dst: LearnDestination::Match(dst),
            n_bits: dst.n_bits,
        });
    }
    if dst.is_whole() {
        return field_and_value(dst.field, value);
    }
    let constant = constant(value, dst.n_bits)?;
    Ok(LearnSpec { src: LearnSource::Value(constant), dst: LearnDestination::Match(dst), n_bits: dst.n_bits })
}
