//! Medians and ratios, as a Markdown table.

/// What a row's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Bytes,
}

/// One measure: samples per column.
#[derive(Debug)]
pub(super) struct Row {
    title: &'static str,
    unit: Unit,
    samples: Vec<Vec<f64>>,
}

impl Row {
    pub(super) fn new(title: &'static str, unit: Unit, columns: usize) -> Self {
        Self {
            title,
            unit,
            samples: vec![Vec::new(); columns],
        }
    }

    pub(super) fn add(&mut self, column: usize, value: f64) {
        self.samples[column].push(value);
    }

    fn cell(&self, column: usize) -> String {
        let median_of = |column: usize| self.samples.get(column).and_then(|list| median(list));
        let Some(value) = median_of(column) else {
            return String::new();
        };
        let text = show(value, self.unit);
        match median_of(0).filter(|own| column > 0 && *own > 0.0) {
            Some(own) => format!("{text} ({:.1}×)", value / own),
            None => text,
        }
    }
}

/// The middle sample; the mean of the two in the middle of an even number.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value >= 1.0 => format!("{value:.2} s"),
        Unit::Seconds => format!("{:.1} ms", value * 1e3),
        Unit::Bytes if value >= 1e6 => format!("{:.2} MB", value / 1e6),
        Unit::Bytes => format!("{:.0} kB", value / 1e3),
    }
}

/// Prints all rows; what stands in parentheses is how many times the first column's value it is.
pub(super) fn print(columns: &[&str], rows: &[Row]) {
    println!(
        "\n| median (× the first column) | {} |",
        columns.join(" | ")
    );
    println!("| --- |{}", " ---: |".repeat(columns.len()));
    for row in rows {
        let cells: Vec<String> = (0..columns.len()).map(|column| row.cell(column)).collect();
        println!("| {} | {} |", row.title, cells.join(" | "));
    }
    let counts: Vec<String> = rows
        .iter()
        .map(|row| row.samples.first().map_or(0, Vec::len).to_string())
        .collect();
    println!("\nsamples per column, row by row: {}", counts.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_cells() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let mut row = Row::new("x", Unit::Seconds, 3);
        row.add(0, 0.010);
        row.add(1, 0.216);
        assert_eq!(row.cell(0), "10.0 ms");
        assert_eq!(row.cell(1), "216.0 ms (21.6×)");
        assert_eq!(row.cell(2), "");
        assert_eq!(show(1_500_000.0, Unit::Bytes), "1.50 MB");
    }
}
