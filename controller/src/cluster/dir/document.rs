//! Cuts a YAML file into its documents, so that one can be rewritten and the others stay as they are.

/// One document of a file, with its marker and the comments around it. The documents of a file, put together, are the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// Line of the file on which the text begins, from 1.
    pub(super) first_line: u64,
}

/// What one line is to the structure of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// `---`
    Begin,
    /// `...`
    End,
    /// Blank, a comment or a directive.
    Filler,
    Content,
}

impl Line {
    fn of(line: &str) -> Self {
        // Markers count in column 0 only, and there even within a scalar (YAML 1.2 §9.1.2).
        let is_marker = |marker| {
            line.strip_prefix(marker)
                .is_some_and(|rest: &str| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if is_marker("---") {
            Self::Begin
        } else if is_marker("...") {
            Self::End
        } else if line.starts_with('%') || matches!(line.trim_start().as_bytes().first(), None | Some(b'#')) {
            Self::Filler
        } else {
            Self::Content
        }
    }

    /// Whether a `---` line also holds the beginning of the document.
    fn begin_has_content(line: &str) -> bool {
        !matches!(line.trim_start_matches('-').trim().as_bytes().first(), None | Some(b'#'))
    }
}

/// The documents of a YAML text, in order.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let (mut begun, mut has_content) = (false, false);
    let mut offset = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let end = offset + line.len();
        // Where the document in progress ends: before this line, after it, or not yet.
        let cut = match Line::of(line) {
            Line::Begin if begun || has_content => Some((offset, number)),
            Line::End => Some((end, number + 1)),
            _ => None,
        };
        if let Some((cut, next_line)) = cut {
            documents.extend(text.get(start..cut).map(|text| Document { text, first_line }));
            (start, first_line) = (cut, next_line);
            (begun, has_content) = (false, false);
        }
        match Line::of(line) {
            Line::Begin => (begun, has_content) = (true, Line::begin_has_content(line)),
            // `%` begins a directive only where a document may begin.
            Line::Filler if line.starts_with('%') && begun => has_content = true,
            Line::Content => has_content = true,
            Line::Filler | Line::End => {}
        }
        offset = end;
    }
    if start < text.len() {
        documents.extend(text.get(start..).map(|text| Document { text, first_line }));
    }
    documents
}

/// A document's text around its content: what stands before it, with the `---` marker, and what stands after it.
pub(super) fn frame(document: &str) -> (&str, &str) {
    let mut content: Option<(usize, usize)> = None;
    let mut offset = 0;
    for line in document.split_inclusive('\n') {
        let end = offset + line.len();
        match Line::of(line) {
            Line::Content => content = Some((content.map_or(offset, |(begin, _)| begin), end)),
            Line::Begin if Line::begin_has_content(line) => content = Some((offset, end)),
            Line::Begin | Line::End | Line::Filler => {}
        }
        offset = end;
    }
    let (begin, end) = content.unwrap_or((document.len(), document.len()));
    (document.get(..begin).unwrap_or_default(), document.get(end..).unwrap_or_default())
}

/// Whether a document says nothing at all.
pub(super) fn is_empty(document: &str) -> bool {
    frame(document).0.len() == document.len()
}

/// Of what stands before a document's content, the comments before its marker: they may speak of the whole file.
pub(super) fn prelude(lead: &str) -> &str {
    let mut offset = 0;
    for line in lead.split_inclusive('\n') {
        if line.starts_with('%') || Line::of(line) == Line::Begin {
            return lead.get(..offset).unwrap_or_default();
        }
        offset += line.len();
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(&str, u64)> {
        split(text).into_iter().map(|document| (document.text, document.first_line)).collect()
    }

    #[test]
    fn documents_put_together_are_the_file() {
        let file = "# header\n---\na: 1\n--- # two\nb: |\n  text\n# after\n...\n# lead\nc: 3\n---\n---\nd: 4";
        let parts = texts(file);
        assert_eq!(
            parts,
            [
                ("# header\n---\na: 1\n", 1),
                ("--- # two\nb: |\n  text\n# after\n...\n", 4),
                ("# lead\nc: 3\n", 9),
                ("---\n", 11),
                ("---\nd: 4", 12),
            ]
        );
        assert_eq!(parts.iter().map(|part| part.0).collect::<String>(), file);
    }

    #[test]
    fn indented_and_longer_dashes_do_not_separate() {
        assert_eq!(texts("a: |\n  ---\nb: ----\n----x: 1\n").len(), 1);
        assert_eq!(texts("").len(), 0);
        assert_eq!(texts("--- {a: 1}\n--- {b: 2}\n").len(), 2);
    }

    #[test]
    fn directives_belong_to_the_document_that_follows() {
        assert_eq!(texts("%YAML 1.2\n---\na: 1\n"), [("%YAML 1.2\n---\na: 1\n", 1)]);
    }

    #[test]
    fn frame_is_marker_and_comments() {
        assert_eq!(
            frame("# lead\n---\n# note\na: 1\n# inside\nb: 2\n\n# tail\n"),
            ("# lead\n---\n# note\n", "\n# tail\n")
        );
        assert_eq!(frame("a: 1"), ("", ""));
        assert_eq!(frame("# lead\n--- {a: 1}\n"), ("# lead\n", ""));
    }
}
