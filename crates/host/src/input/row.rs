//! A row of an input, as a mapping sees it.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use statefun_ingress::{NOT_WHOLE, whole};

use super::{
    header::Header,
    json::csv_as_json,
    split::{BYTE_ORDER_MARK, Flaw, Format, MAX_ROW_BYTES, RawRow},
};

/// A row of an input that a mapping makes messages of.
#[derive(Debug)]
pub struct Row<'a> {
    line: u64,
    fields: Fields<'a>,
}

#[derive(Debug)]
enum Fields<'a> {
    Csv { header: &'a Header, record: csv::StringRecord },
    Json { text: &'a str, value: serde_json::Value },
}

impl Row<'_> {
    /// The row's (first) line in the input, counted from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The field's text: of CSV as it stands there, of JSON a string's text or a number, `true` or `false`. `None` if there is
    /// no such field, if it is `null`, or if it is an object or a list. Large numbers may lose digits: see [`id`](Self::id).
    #[must_use]
    pub fn get(&self, field: &str) -> Option<Cow<'_, str>> {
        match &self.fields {
            Fields::Csv { header, record } => {
                let index = header.names.iter().position(|name| name == field)?;
                record.get(index).map(Cow::Borrowed)
            }
            Fields::Json { value, .. } => match value.get(field)? {
                serde_json::Value::String(text) => Some(Cow::Borrowed(text)),
                value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Some(Cow::Owned(value.to_string())),
                _ => None,
            },
        }
    }

    /// The field's text as [`get`](Self::get) has it, for an id or a key.
    ///
    /// # Errors
    /// If it is a number of JSON that may not keep all of its digits.
    pub fn id(&self, field: &str) -> Result<Option<Cow<'_, str>>, String> {
        match &self.fields {
            Fields::Json { value, .. } => match value.get(field) {
                Some(serde_json::Value::Number(number)) => match whole(number) {
                    Some(text) => Ok(Some(Cow::Owned(text))),
                    None => Err(format!("the field `{field}` is {NOT_WHOLE}")),
                },
                _ => Ok(self.get(field)),
            },
            Fields::Csv { .. } => Ok(self.get(field)),
        }
    }

    /// The row as a type of serde's.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, String> {
        match &self.fields {
            Fields::Csv { header, record } => record.deserialize(Some(&header.names)).map_err(|error| match error.kind() {
                // Without the place: it would be the place within this row.
                csv::ErrorKind::Deserialize { err, .. } => match err.field().and_then(|index| header.names.get(index as usize)) {
                    Some(field) => format!("the field `{field}`: {}", err.kind()),
                    None => err.kind().to_string(),
                },
                _ => error.to_string(),
            }),
            Fields::Json { text, .. } => serde_json::from_str(text).map_err(|error| error.to_string()),
        }
    }

    /// The row as JSON text. Of CSV an object: a field that is exactly a JSON number, `true` or `false` becomes that, an empty
    /// one `null`, any other a string. A number keeps its digits; what is too large for a double is a string. A column that is
    /// declared as [text](crate::Mapping::with_text) holds strings only.
    #[must_use]
    pub fn to_json(&self) -> String {
        match &self.fields {
            Fields::Csv { header, record } => csv_as_json(header, record),
            Fields::Json { text, .. } => (*text).to_owned(),
        }
    }
}

/// Reads raw rows of one format.
#[derive(Debug)]
pub(super) struct RowReader {
    format: Format,
    core: csv_core::Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
}

impl RowReader {
    pub(super) fn new(format: Format) -> Self {
        // Rows come one by one and without their line ends.
        let core = csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
        Self { format, core, output: vec![0; 1 << 12], ends: vec![0; 64] }
    }

    pub(super) fn needs_header(&self) -> bool {
        self.format == Format::Csv
    }

    /// Reads a row.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read<'a>(&mut self, raw: RawRow<'a>, header: &'a Header) -> Result<Row<'a>, String> {
        if let Some(flaw) = raw.flaw {
            return Err(flawed(flaw, raw.bytes.len()));
        }
        let fields = match self.format {
            Format::Csv => {
                let record = self.csv(raw.bytes)?;
                if record.len() != header.names.len() {
                    return Err(format!("the row has {} fields, the header has {}", record.len(), header.names.len()));
                }
                Fields::Csv { header, record }
            }
            Format::JsonLines => {
                let text = std::str::from_utf8(raw.bytes).map_err(not_utf8)?.trim_matches([' ', '\t', '\r', '\n']);
                let value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
                Fields::Json { text, value }
            }
        };
        Ok(Row { line: raw.place.line, fields })
    }

    /// Reads the fields of one CSV row.
    pub(super) fn csv(&mut self, row: &[u8]) -> Result<csv::StringRecord, String> {
        // No field is longer than the row, and none has no byte of its own but the first.
        if self.output.len() < row.len() {
            self.output.resize(row.len(), 0);
        }
        self.core.reset();
        if row.starts_with(BYTE_ORDER_MARK) {
            // The reader takes this row for the beginning of the input, and would pass the mark. An empty line makes it the second one.
            let _ = self.core.read_record(b"\n", &mut self.output, &mut self.ends);
        }
        let (mut input, mut output, mut ends) = (row, 0, 0);
        loop {
            let (result, read, written, ended) = self.core.read_record(input, &mut self.output[output..], &mut self.ends[ends..]);
            (input, output, ends) = (&input[read..], output + written, ends + ended);
            match result {
                // The next call, without input, says that this was all.
                csv_core::ReadRecordResult::InputEmpty => input = &[],
                csv_core::ReadRecordResult::OutputFull => self.output.resize(self.output.len() * 2, 0),
                csv_core::ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::End => break,
            }
        }
        let mut record = csv::StringRecord::with_capacity(output, ends);
        let mut start = 0;
        for end in &self.ends[..ends] {
            record.push_field(std::str::from_utf8(&self.output[start..*end]).map_err(not_utf8)?);
            start = *end;
        }
        Ok(record)
    }
}

/// What is said of a row with this flaw, of which so many bytes are kept.
pub(super) fn flawed(flaw: Flaw, kept: usize) -> String {
    match flaw {
        Flaw::TooLong => {
            format!("the row has more than {MAX_ROW_BYTES} bytes, of which the first {kept} are kept; is a quote not closed?")
        }
        Flaw::Unclosed => "a quote in this row is not closed before the input ends".to_owned(),
        Flaw::Swallowed => {
            "quotes in this row hold a line end and are closed in the middle of a field; is a quote before not closed?".to_owned()
        }
    }
}

fn not_utf8(error: std::str::Utf8Error) -> String {
    format!("not UTF-8: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::split::Place;

    fn raw(bytes: &[u8]) -> RawRow<'_> {
        RawRow { place: Place { offset: 9, line: 3 }, bytes, flaw: None }
    }

    #[test]
    fn csv_fields_become_json() {
        let mut reader = RowReader::new(Format::Csv);
        let header = reader.csv(b"id,n,flag,none,text").unwrap().into();
        let row = reader.read(raw(b"007,-1.50e2,true,,\"a \"\"b\"\"\nc\""), &header).unwrap();
        assert_eq!(row.to_json(), r#"{"id":"007","n":-1.50e2,"flag":true,"none":null,"text":"a \"b\"\nc"}"#);
        assert_eq!((row.line(), row.get("id").as_deref(), row.get("nope")), (3, Some("007"), None));
        let wide = "x,".repeat(5_000);
        assert_eq!(reader.csv(wide.as_bytes()).unwrap().len(), 5_001);
        assert_eq!(reader.csv(b",").unwrap().len(), 2);
    }

    /// Found by the fuzz target. Only at the beginning of the input, where it is passed before, a mark is one.
    #[test]
    fn a_mark_at_the_beginning_of_a_row_is_text() {
        let mut reader = RowReader::new(Format::Csv);
        let header = reader.csv(b"id,n").unwrap().into();
        let row = reader.read(raw("\u{feff}a,1".as_bytes()), &header).unwrap();
        assert_eq!((row.get("id").as_deref(), row.to_json().as_str()), (Some("\u{feff}a"), "{\"id\":\"\u{feff}a\",\"n\":1}"));
        let row = reader.read(raw("\u{feff},".as_bytes()), &header).unwrap();
        assert_eq!((row.get("id").as_deref(), row.get("n").as_deref()), (Some("\u{feff}"), Some("")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        #[derive(Debug, serde::Deserialize)]
        struct Typed {
            #[expect(dead_code, reason = "only read")]
            n: u8,
        }
        let mut csv = RowReader::new(Format::Csv);
        let header = csv.csv(b"id,n").unwrap().into();
        assert_eq!(csv.read(raw(b"1"), &header).unwrap_err(), "the row has 1 fields, the header has 2");
        assert!(csv.read(raw(b"1,\xff"), &header).unwrap_err().starts_with("not UTF-8"));
        let error = csv.read(raw(b"1,x"), &header).unwrap().deserialize::<Typed>().unwrap_err();
        assert_eq!(error, "the field `n`: invalid digit found in string");
        let mut json = RowReader::new(Format::JsonLines);
        assert!(json.read(raw(b"{"), &header).unwrap_err().starts_with("not JSON"));
        assert_eq!(json.read(raw(b"{\"id\":7}"), &header).unwrap().get("id").as_deref(), Some("7"));
    }

    #[test]
    fn an_id_keeps_its_digits() {
        let (mut json, header) = (RowReader::new(Format::JsonLines), Header::default());
        let id = |json: &mut RowReader, value: &str| {
            let text = format!("{{\"id\":{value}}}");
            let row = json.read(raw(text.as_bytes()), &header).unwrap();
            assert_eq!(row.to_json(), text, "handlers get what stands there");
            row.id("id").map(|id| id.map(Cow::into_owned))
        };
        for (value, text) in
            [("18446744073709551615", "18446744073709551615"), ("-7", "-7"), ("\"1.50\"", "1.50"), ("true", "true")]
        {
            assert_eq!(id(&mut json, value).unwrap().as_deref(), Some(text));
        }
        assert_eq!(id(&mut json, "null"), Ok(None));
        for value in ["18446744073709551616", "12345678901234567890123", "1.5", "1e2"] {
            let error = id(&mut json, value).unwrap_err();
            assert!(error.contains("the field `id` is a number with") && error.contains("as a string"), "{error}");
        }
        let mut csv = RowReader::new(Format::Csv);
        let header = csv.csv(b"id").unwrap().into();
        let row = csv.read(raw(b"12345678901234567890123"), &header).unwrap();
        assert_eq!(row.id("id").unwrap().as_deref(), Some("12345678901234567890123"));
    }
}
