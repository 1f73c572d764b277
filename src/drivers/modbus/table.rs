//! Points as a spreadsheet saves them: CSV, one a line, made into the same TOML that `[[device.tag]]` is,
//! line for line, so that one reader serves both and errors name the right line.

/// The list in the TOML.
pub(super) const ROWS: &str = "tag";
/// Columns that are numbers, or true and false; all others are text.
const PLAIN: [&str; 5] = ["scale", "offset", "min", "max", "verify"];

/// `Err` names the line and says what is wrong. Fields are parted by commas or semicolons, whichever the
/// first line has; empty ones are left out.
pub(super) fn as_toml(csv: &str) -> Result<String, String> {
    let csv = csv.strip_prefix('\u{feff}').unwrap_or(csv);
    let header = csv.lines().next().unwrap_or_default();
    let separator = if header.contains(';') { ';' } else { ',' };
    let columns = fields(header, separator).ok_or("1: a quote is not closed")?;
    let mut toml = format!("{ROWS} = [\n");
    for (number, line) in csv.lines().enumerate().skip(1) {
        let fields =
            fields(line, separator).ok_or_else(|| format!("{}: a quote is not closed", number + 1))?;
        if fields.len() > columns.len() {
            return Err(format!("{}: more fields than the first line has columns", number + 1));
        }
        let filled = columns.iter().zip(&fields).filter(|(_, field)| !field.is_empty());
        let cells: Vec<String> = filled.map(|(column, field)| cell(column, field)).collect();
        if !cells.is_empty() {
            toml += &format!("{{ {} }},", cells.join(", "));
        }
        toml.push('\n');
    }
    Ok(toml + "]\n")
}

fn cell(column: &str, field: &str) -> String {
    let is_plain = PLAIN.contains(&column) || (column == "deadband" && field.parse::<f64>().is_ok());
    // Spreadsheets write TRUE and 1E-3.
    let field = if is_plain { &field.to_ascii_lowercase() } else { field };
    if is_plain { format!("{column:?} = {field}") } else { format!("{column:?} = {field:?}") }
}

/// The fields of a line; quotes around a field allow separators in it, and two quotes there are one. `None`
/// if one is not closed.
fn fields(line: &str, separator: char) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always one");
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => fields.push(String::new()),
            _ => field.push(character),
        }
    }
    let trimmed = fields.into_iter().map(|field| field.trim().to_owned());
    (!is_quoted).then(|| trimmed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_where_they_are() {
        let toml = as_toml(
            "\u{feff}name;address;type;scale;deadband;verify\r\nvoltage/l1;input:0;i32;0.1;1%;\r\n\r\n\
             \"say \"\"hi\"\"; you\";coil:7;;;0.5;true\r\n",
        );
        let expected = [
            "tag = [",
            concat!(
                r#"{ "name" = "voltage/l1", "address" = "input:0", "type" = "i32", "scale" = 0.1, "#,
                r#""deadband" = "1%" },"#
            ),
            "",
            r#"{ "name" = "say \"hi\"; you", "address" = "coil:7", "deadband" = 0.5, "verify" = true },"#,
            "]",
        ];
        assert_eq!(toml.unwrap().lines().collect::<Vec<_>>(), expected);
        assert_eq!(
            as_toml("name,address\na,coil:1,x\n"),
            Err("2: more fields than the first line has columns".into())
        );
        assert_eq!(as_toml("name,address\n\"a,coil:1\n"), Err("2: a quote is not closed".into()));
    }
}
