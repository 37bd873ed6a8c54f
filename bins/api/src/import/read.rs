//! The rows of a file: CSV with a header line, or NDJSON. Both are read as the body of `POST /products` is, so that a value is
//! valid in a file if it is in a request.

use std::collections::HashMap;

use inventory::import::Row;
use serde_json::{Map, Value};

use crate::{faults, json::Object, problem::in_one_text, products::WantedProduct};

/// A value and the number of its line.
pub(super) struct Line<T> {
    pub(super) number: u64,
    pub(super) value: T,
}

/// What is wrong, by line.
type Wrong = Vec<(u64, String)>;

/// The columns whose values are numbers. All other values are text.
const NUMBERS: [&str; 4] = ["stock", "hold_seconds", "max_hold_seconds", "max_per_user"];

/// The columns of CSV.
const COLUMNS: [&str; 8] = [
    "sku",
    "name",
    "stock",
    "hold_seconds",
    "max_hold_seconds",
    "max_per_user",
    "sale_starts_at",
    "sale_ends_at",
];

/// All rows, or everything that is wrong. Spreadsheets may begin a file with a byte order mark.
pub(super) fn read(text: &str) -> Result<Vec<Line<Row>>, Wrong> {
    let text = text.trim_start_matches('\u{feff}');
    let mut wrong = Vec::new();
    let objects = match text.trim_start().starts_with('{') {
        true => ndjson(text),
        false => csv(text, &mut wrong).unwrap_or_else(|fault| {
            wrong.push(fault);
            Vec::new()
        }),
    };
    let mut rows = Vec::with_capacity(objects.len());
    let mut lines: HashMap<String, u64> = HashMap::new();
    for Line { number, value } in objects {
        match row(&value) {
            Ok(row) => {
                let first = *lines.entry(row.sku.to_string()).or_insert(number);
                if first != number {
                    wrong.push((number, format!("{} is in line {first}, too", row.sku)));
                }
                rows.push(Line { number, value: row });
            }
            Err(why) => wrong.push((number, why)),
        }
    }
    match wrong.is_empty() {
        true => Ok(rows),
        false => {
            wrong.sort();
            Err(wrong)
        }
    }
}

fn ndjson(text: &str) -> Vec<Line<String>> {
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| Line {
            number,
            value: line.to_owned(),
        })
        .collect()
}

/// The rows as JSON. An empty value removes a rule, or leaves name and stock unchanged.
fn csv(text: &str, wrong: &mut Wrong) -> Result<Vec<Line<String>>, (u64, String)> {
    // The csv crate gives a record after "\r\n" the number of the line before it.
    let text = text.replace("\r\n", "\n");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().map_err(|error| (1, error.to_string()))?;
    let columns: Vec<String> = head.iter().map(|name| name.trim().to_owned()).collect();
    for (position, name) in columns.iter().enumerate() {
        if !COLUMNS.contains(&name.as_str()) {
            let columns = COLUMNS.join(", ");
            return Err((
                1,
                format!("there is no column {name:?}: the columns are {columns}"),
            ));
        }
        if columns[..position].contains(name) {
            return Err((1, format!("the column {name} is there twice")));
        }
    }
    if !columns.iter().any(|name| name == "sku") {
        return Err((1, "the column sku is missing".to_owned()));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                wrong.push((
                    line,
                    format!("expected {} values, as in the head", columns.len()),
                ));
                continue;
            }
        };
        let mut object = Map::new();
        for (name, text) in columns.iter().zip(&record) {
            let keeps = text.is_empty() && matches!(name.as_str(), "name" | "stock");
            if !keeps {
                object.insert(name.clone(), value(name, text));
            }
        }
        rows.push(Line {
            number: record.position().map_or(0, csv::Position::line),
            value: Value::Object(object).to_string(),
        });
    }
    Ok(rows)
}

fn value(column: &str, text: &str) -> Value {
    if text.is_empty() && column != "sku" {
        return Value::Null;
    }
    if NUMBERS.contains(&column)
        && let Ok(number) = serde_json::from_str::<Value>(text.trim())
        && number.is_number()
    {
        return number;
    }
    text.into()
}

fn row(json: &str) -> Result<Row, String> {
    let product: WantedProduct = match serde_json::from_str(json) {
        Ok(Object(product)) => product,
        Err(_) => {
            return Err(match faults::of_body::<Object<WantedProduct>>(json) {
                Ok(faults) => faults::detail(&faults),
                Err(why) => why,
            });
        }
    };
    let valid = product.validated().map_err(|faults| in_one_text(&faults))?;
    Ok(Row {
        sku: valid.sku.ok_or("sku is missing")?,
        name: valid.name,
        stock: valid.stock,
        policy: valid.policy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skus(text: &str) -> Vec<(u64, String)> {
        let rows = read(text).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        rows.iter()
            .map(|row| (row.number, row.value.sku.to_string()))
            .collect()
    }

    fn wrong(text: &str) -> Wrong {
        read(text).err().expect(text)
    }

    #[test]
    fn csv_and_ndjson_have_the_same_rows() {
        let of_csv = "\u{feff}sku,name,stock,hold_seconds\r\nA,\"a \"\"mug\"\", large\",5,\r\nB,cup\nand saucer,,60\n";
        let of_csv = of_csv
            .replace("cup\nand", "\"cup\nand")
            .replace("saucer,", "saucer\",");
        assert_eq!(skus(&of_csv), [(2, "A".to_owned()), (3, "B".to_owned())]);
        let rows = read(&of_csv).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        assert_eq!(
            rows[0].value.name.as_ref().map(|name| name.as_str()),
            Some("a \"mug\", large")
        );
        assert_eq!((rows[0].value.stock, rows[1].value.stock), (Some(5), None));
        assert_eq!(rows[0].value.policy.hold_seconds, Some(None));
        let of_ndjson = "{\"sku\":\"A\",\"stock\":5}\n\n{\"sku\":\"B\",\"hold_seconds\":null}\n";
        assert_eq!(skus(of_ndjson), [(1, "A".to_owned()), (3, "B".to_owned())]);
        assert!(skus("sku\n").is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_line() {
        let text =
            "sku,stock,sale_ends_at\nA,1,\n,2,\nB,-1,\nC,x,\nA,1,\nD,1,tomorrow\nE,1\nF,1.5,\n";
        let lines: Vec<u64> = wrong(text).iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9]);
        for (text, line, words) in [
            ("", 1, "sku is missing"),
            ("name\nx\n", 1, "sku is missing"),
            ("sku,colour\nA,red\n", 1, "no column \"colour\""),
            ("sku,sku\nA,A\n", 1, "twice"),
            ("{\"sku\":\"A\"}\n{\"sku\":", 2, "EOF"),
            ("{\"stock\":1}", 1, "sku is missing"),
            ("{\"sku\":\"A\",\"colour\":1}", 1, "/colour"),
        ] {
            let wrong = wrong(text);
            assert!(
                wrong
                    .iter()
                    .any(|(at, why)| *at == line && why.contains(words)),
                "{text}: {wrong:?}"
            );
        }
    }
}
