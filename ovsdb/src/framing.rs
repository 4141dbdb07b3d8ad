//! Where one JSON-RPC message ends and the next begins: a streaming splitter (RFC 7047 §4).
//!
//! Messages follow each other on the stream without a length or a separator. The splitter follows strings,
//! escapes and nesting just far enough to find the end of each one, looks at each byte once however the stream
//! is cut, and refuses early what would cost memory without bound. The JSON itself is checked by the parser.

#[cfg(test)]
mod tests;

/// What a peer may make us buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message. The first answer of a monitor holds whole tables, about 1 KiB a row.
    pub message: usize,
    /// Bytes of one string within a message, escapes counted as sent.
    pub string: usize,
    /// Levels of arrays and objects within each other; OVSDB itself needs eleven, and schemas a few more.
    pub depth: u16,
    /// Bytes of answers to the peer's own requests that it has not taken yet.
    pub answers: usize,
}

impl Default for Limits {
    /// 256 MiB a message, 16 MiB a string, 64 levels, 1 MiB of answers.
    fn default() -> Self {
        Limits { message: 256 << 20, string: 16 << 20, depth: 64, answers: 1 << 20 }
    }
}

/// The stream is not a sequence of JSON objects, or goes beyond the [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Something other than white space and `{` between two messages.
    #[error("byte {offset} of the stream is {byte:#04x}, not the beginning of a message")]
    NotAnObject {
        /// Position in the stream, from 0.
        offset: u64,
        /// The byte found.
        byte: u8,
    },
    /// A closing bracket that closes nothing, or a brace that closes an array, or the other way round.
    #[error("byte {offset} of the stream closes a bracket that is not open")]
    Unbalanced {
        /// Position in the stream, from 0.
        offset: u64,
    },
    /// A message longer than [`Limits::message`].
    #[error("a message is longer than {limit} bytes")]
    MessageTooLong {
        /// The limit in force.
        limit: usize,
    },
    /// A string longer than [`Limits::string`].
    #[error("a string is longer than {limit} bytes")]
    StringTooLong {
        /// The limit in force.
        limit: usize,
    },
    /// Arrays and objects nested deeper than [`Limits::depth`].
    #[error("a message is nested deeper than {limit} levels")]
    TooDeep {
        /// The limit in force.
        limit: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between messages.
    Between,
    /// In a message, outside of strings.
    Structure,
    /// In a string of this many bytes so far.
    String(usize),
    /// After a backslash in a string.
    Escape(usize),
}

/// Splits a byte stream into JSON objects.
#[derive(Debug)]
pub struct Splitter {
    limits: Limits,
    state: State,
    /// The open brackets, outermost first: true for `{`.
    open: Vec<bool>,
    /// The beginning of a message whose end has not come yet.
    partial: Vec<u8>,
    /// Bytes consumed so far, for error messages.
    offset: u64,
    /// Once the stream is broken no later byte can be trusted.
    failed: Option<FramingError>,
}

impl Splitter {
    /// A splitter at the beginning of a stream.
    pub fn new(limits: Limits) -> Splitter {
        Splitter {
            limits,
            state: State::Between,
            open: Vec::new(),
            partial: Vec::new(),
            offset: 0,
            failed: None,
        }
    }

    /// Whether the stream may end here: no message is half received.
    pub fn is_between_messages(&self) -> bool {
        self.state == State::Between
    }

    /// Bytes held back for a message that is not complete.
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Takes the next bytes of the stream and hands each complete message, in order, to `each`.
    ///
    /// # Errors
    /// The stream broke; it stays broken. Messages complete before that point have been handed over.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), FramingError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut rest = bytes;
        loop {
            if self.state == State::Between {
                // White space between messages belongs to none and counts for none.
                let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
                let skipped = rest.iter().take_while(blank).count();
                self.offset = self.offset.saturating_add(skipped as u64);
                rest = rest.split_at(skipped).1;
            }
            match self.scan(rest) {
                Ok(Some(end)) => {
                    let (message, after) = rest.split_at(end);
                    if self.partial.is_empty() {
                        each(message);
                    } else {
                        self.partial.extend_from_slice(message);
                        each(&self.partial);
                        self.partial.clear();
                        // One huge message must not pin its memory for the life of the connection.
                        self.partial.shrink_to(64 << 10);
                    }
                    rest = after;
                }
                Ok(None) => {
                    if self.state != State::Between {
                        self.partial.extend_from_slice(rest);
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.failed = Some(error);
                    self.partial = Vec::new();
                    return Err(error);
                }
            }
        }
    }

    /// Goes on to the end of the current message; returns how many bytes of `bytes` belong to it, if it ends there.
    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, FramingError> {
        let before = self.partial.len();
        let start = self.offset;
        let too_long = FramingError::MessageTooLong { limit: self.limits.message };
        for (at, &byte) in bytes.iter().enumerate() {
            let offset = start.saturating_add(at as u64);
            match self.state {
                State::Between => match byte {
                    b'{' => self.enter(true)?,
                    byte => return Err(FramingError::NotAnObject { offset, byte }),
                },
                State::Structure => match byte {
                    b'"' => self.state = State::String(0),
                    b'{' => self.enter(true)?,
                    b'[' => self.enter(false)?,
                    b'}' | b']' => {
                        if self.open.pop() != Some(byte == b'}') {
                            return Err(FramingError::Unbalanced { offset });
                        }
                        if self.open.is_empty() {
                            self.state = State::Between;
                            self.offset = offset.saturating_add(1);
                            let end = at.saturating_add(1);
                            return if before.saturating_add(end) > self.limits.message {
                                Err(too_long)
                            } else {
                                Ok(Some(end))
                            };
                        }
                    }
                    _ => {}
                },
                State::String(length) => {
                    if length >= self.limits.string && byte != b'"' {
                        return Err(FramingError::StringTooLong { limit: self.limits.string });
                    }
                    self.state = match byte {
                        b'"' => State::Structure,
                        b'\\' => State::Escape(length.saturating_add(1)),
                        _ => State::String(length.saturating_add(1)),
                    };
                }
                State::Escape(length) => self.state = State::String(length.saturating_add(1)),
            }
        }
        self.offset = start.saturating_add(bytes.len() as u64);
        if self.state != State::Between && before.saturating_add(bytes.len()) > self.limits.message {
            return Err(too_long);
        }
        Ok(None)
    }

    fn enter(&mut self, object: bool) -> Result<(), FramingError> {
        if self.open.len() >= usize::from(self.limits.depth) {
            return Err(FramingError::TooDeep { limit: self.limits.depth });
        }
        self.open.push(object);
        self.state = State::Structure;
        Ok(())
    }
}
