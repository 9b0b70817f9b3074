//! Columns as Docker's tables have them: cells parted by tabs become columns, each as wide as its widest cell and
//! three blanks (at least ten characters in all).

/// Blanks between columns.
const PADDING: usize = 3;
/// The least width of a column with its padding.
const MIN_WIDTH: usize = 10;

/// Aligns lines whose cells are parted by tabs. The last cell of a line is not padded.
pub fn align(text: &str) -> String {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate().take(row.len() - 1) {
            let width = (cell.chars().count() + PADDING).max(MIN_WIDTH);
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for row in rows {
        let last = row.len() - 1;
        for (column, cell) in row.into_iter().enumerate() {
            out.push_str(cell);
            if column < last {
                out.extend(std::iter::repeat_n(
                    ' ',
                    widths[column] - cell.chars().count(),
                ));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns() {
        assert_eq!(
            align("CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbusybox:latest\tweb\n"),
            "CONTAINER ID   IMAGE            NAMES\n0123456789ab   busybox:latest   web\n"
        );
        assert_eq!(align("A\tB\n1\t2\n"), "A         B\n1         2\n");
        assert_eq!(align("ä\tx\n"), "ä         x\n");
        assert_eq!(align("one\n"), "one\n");
        assert_eq!(align(""), "");
        assert_eq!(align("a\t\tc\n"), "a                   c\n");
    }
}
