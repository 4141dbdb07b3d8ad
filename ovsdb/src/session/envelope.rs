//! JSON-RPC 1.0 messages (RFC 7047 §4).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::SessionError;

/// The three kinds of messages; their content stays raw until it is known what it should be.
pub(super) enum Envelope<'m> {
    Request { id: &'m RawValue, method: Cow<'m, str>, params: &'m RawValue },
    Notification { method: Cow<'m, str>, params: &'m RawValue },
    Reply { id: &'m RawValue, result: Result<&'m RawValue, &'m RawValue> },
}

#[derive(Deserialize)]
struct Raw<'m> {
    #[serde(borrow, default)]
    id: Option<&'m RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'m, str>>,
    #[serde(borrow, default)]
    params: Option<&'m RawValue>,
    #[serde(borrow, default)]
    result: Option<&'m RawValue>,
    #[serde(borrow, default)]
    error: Option<&'m RawValue>,
}

impl<'m> Envelope<'m> {
    pub(super) fn parse(message: &'m [u8]) -> Result<Self, SessionError> {
        let raw: Raw<'m> =
            serde_json::from_slice(message).map_err(|error| SessionError::Message(error.to_string()))?;
        // An absent member and null are the same, but a null result is a result.
        let null = RawValue::NULL;
        match raw {
            Raw { method: Some(method), id, params, .. } => {
                let params = params.unwrap_or(null);
                Ok(match id {
                    Some(id) => Envelope::Request { id, method, params },
                    None => Envelope::Notification { method, params },
                })
            }
            Raw { id: Some(id), error: Some(error), .. } => Ok(Envelope::Reply { id, result: Err(error) }),
            Raw { id: Some(id), result, .. } => {
                Ok(Envelope::Reply { id, result: Ok(result.unwrap_or(null)) })
            }
            Raw { error: Some(error), .. } => {
                Err(SessionError::Message(format!("an error about no request: {}", error.get())))
            }
            Raw { .. } => Err(SessionError::Message("neither method nor id".to_owned())),
        }
    }
}
