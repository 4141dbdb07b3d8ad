//! The error of every text parser.

use std::fmt;
use std::ops::Range;

/// A flow, group or action that does not parse: what is wrong and where.
///
/// ```
/// let error = "tcp,nw_src=10.0.0.256 actions=drop".parse::<openflow::Flow>().unwrap_err();
/// assert_eq!(error.span(), 11..21);
/// assert_eq!(error.message(), "expected an IPv4 address, found `10.0.0.256`");
/// assert_eq!(error.to_string(), "column 12: expected an IPv4 address, found `10.0.0.256`");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {}: {message}", .start + 1)]
pub struct ParseError {
    start: usize,
    end: usize,
    message: String,
    input: Option<String>,
}

impl ParseError {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        ParseError { start: span.start, end: span.end, message: message.into(), input: None }
    }

    pub(super) fn with_input(mut self, input: &str) -> Self {
        self.input.get_or_insert_with(|| input.to_owned());
        self
    }

    /// Which bytes of the input are wrong. Empty where something is missing.
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// What is wrong, and what was expected.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The input, if known.
    pub fn input(&self) -> Option<&str> {
        self.input.as_deref()
    }

    /// Three lines for a person: the message, the input, and a line that marks the wrong word.
    pub fn report(&self) -> impl fmt::Display + '_ {
        Report(self)
    }
}

/// For tools that draw the input with the wrong word marked.
impl miette::Diagnostic for ParseError {
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.input.as_ref().map(|input| input as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let label = miette::LabeledSpan::new_with_span(Some("here".to_owned()), self.span());
        Some(Box::new(std::iter::once(label)))
    }
}

struct Report<'a>(&'a ParseError);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0;
        writeln!(f, "error: {}", error.message)?;
        if let Some(input) = &error.input {
            let columns = |bytes: usize| input.get(..bytes).map_or(bytes, |s| s.chars().count());
            let (start, end) = (columns(error.start), columns(error.end));
            writeln!(f, "  | {input}")?;
            write!(f, "  | {:start$}{}", "", "^".repeat(end.saturating_sub(start).max(1)))?;
        }
        Ok(())
    }
}
