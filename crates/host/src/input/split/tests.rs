use super::*;

/// Gives a few bytes at a time, so that every boundary falls everywhere.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(into.len());
        into[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn rows(text: &[u8], format: Format, step: usize) -> Vec<(u64, u64, String, bool)> {
    let mut splitter = Splitter::new(Drip(text, step), format, Place::START);
    let mut rows = Vec::new();
    loop {
        match splitter.next() {
            Found::Row(RawRow { place, bytes, flaw }) => {
                let too_long = flaw == Some(Flaw::TooLong);
                rows.push((place.offset, place.line, String::from_utf8_lossy(bytes).into_owned(), too_long));
            }
            Found::NeedsInput => splitter.fill().unwrap(),
            Found::End => {
                assert_eq!(splitter.place().offset, text.len() as u64);
                return rows;
            }
        }
    }
}

#[test]
fn places_are_exact_however_the_bytes_arrive() {
    let text = b"\xef\xbb\xbfa,b\r\n\r\n1,\"x\ny \"\" , z\"\r\n\n2,\"q\"\n3,it\"s";
    for step in [1, 2, 3, 7, 1_000] {
        let rows = rows(text, Format::Csv, step);
        let places: Vec<_> = rows.iter().map(|(offset, line, ..)| (*offset, *line)).collect();
        assert_eq!(places, [(0, 1), (10, 3), (27, 6), (33, 7)], "step {step}");
        let texts: Vec<_> = rows.iter().map(|(_, _, text, _)| text.as_str()).collect();
        assert_eq!(texts, ["a,b", "1,\"x\ny \"\" , z\"", "2,\"q\"", "3,it\"s"]);
    }
}

#[test]
fn json_lines_do_not_care_about_quotes() {
    let rows = rows(b"{\"a\":\"\n  \n}\"\n", Format::JsonLines, 4);
    assert_eq!(rows.iter().map(|(_, line, text, _)| (*line, text.as_str())).collect::<Vec<_>>(), [(1, "{\"a\":\""), (3, "}\"")]);
}

#[test]
fn of_a_row_that_is_too_long_whole_characters_are_kept() {
    for (text, kept) in [("x", KEPT_BYTES), ("ä", KEPT_BYTES - 1), ("\u{1f600}", KEPT_BYTES - 3)] {
        let long = format!("{}{}\n", if text == "x" { "" } else { "x" }, text.repeat(MAX_ROW_BYTES + 1));
        let rows = rows(long.as_bytes(), Format::JsonLines, 1 << 20);
        assert!(rows[0].3 && rows[0].2.len() == kept && !rows[0].2.contains('\u{fffd}'), "{}", rows[0].2.len());
    }
}

#[test]
fn a_row_that_is_too_long_is_passed_in_bounded_memory() {
    let long = format!("a\n\"{}\"\nb\n", "x\n".repeat(1 << 20));
    for step in [1_000, 1 << 20] {
        let rows = rows(long.as_bytes(), Format::Csv, step);
        assert_eq!(rows.len(), 3);
        assert!(rows[1].3 && rows[1].2.len() == KEPT_BYTES);
        assert_eq!((rows[2].1, rows[2].2.as_str(), rows[2].3), (3 + (1 << 20), "b", false));
    }
    let mut splitter = Splitter::new(Drip(long.as_bytes(), 1 << 16), Format::Csv, Place::START);
    let mut most = 0;
    while !matches!(splitter.next(), Found::End) {
        splitter.fill().unwrap();
        most = most.max(splitter.buffer.len());
    }
    assert!(most <= MAX_ROW_BYTES + 2 * READ_BYTES, "{most}");
}
