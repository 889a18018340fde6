//! Writes a file as long as the whole year to the standard output, made of the week that comes with the example:
//!
//! `cargo run -p flights --example year > year.csv`

#[path = "../tests/common/year.rs"]
mod year;

use std::{
    fs,
    io::{self, BufWriter, Write},
};

fn main() -> io::Result<()> {
    let week = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights-week.csv"))?;
    let mut out = BufWriter::new(io::stdout().lock());
    year::write(&week, year::YEAR_ROWS, &mut out)?;
    out.flush()
}
