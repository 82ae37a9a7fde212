//! `NaN` and `Infinity`: careless libraries write them bare, which is no JSON. One such number would make its whole page
//! unreadable, although only its own item is bad.

/// The numbers that are none, longest first: the sign belongs to them.
const NOT_NUMBERS: [&[u8]; 4] = [b"-Infinity", b"Infinity", b"-NaN", b"NaN"];
/// Stands in for them: no longer than any, and good neither as a number nor as a text.
const STAND_IN: &[u8] = b"[]";

/// Puts an empty array in place of each of them, within the same bytes. Strings are left alone. Whether there was any.
pub(super) fn replace_no_numbers(body: &mut [u8]) -> bool {
    let (mut at, mut in_string, mut any) = (0, false, false);
    while let Some(byte) = body.get(at) {
        match byte {
            // What follows is part of the string, a quote too.
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'-' | b'I' | b'N' if !in_string => {
                let found = NOT_NUMBERS.iter().find(|text| body[at..].starts_with(text));
                if let Some(found) = found {
                    let place = &mut body[at..at + found.len()];
                    place.fill(b' ');
                    place[..STAND_IN.len()].copy_from_slice(STAND_IN);
                    at += found.len();
                    any = true;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_ones_outside_of_strings_are_replaced() {
        for (sent, mended) in [
            (r#"{"a":NaN,"b":-Infinity}"#, Some(r#"{"a":[] ,"b":[]       }"#)),
            ("[Infinity,-NaN,-1]", Some("[[]      ,[]  ,-1]")),
            (r#"{"NaN":"-Infinity","a\"NaN":1}"#, None),
            (r#"{"a":"x\\","b":NaN"#, Some(r#"{"a":"x\\","b":[] "#)),
            ("", None),
            (r#""\"#, None),
        ] {
            let mut body = sent.as_bytes().to_vec();
            let any = replace_no_numbers(&mut body);
            assert_eq!(any, mended.is_some(), "{sent}");
            assert_eq!(body, mended.unwrap_or(sent).as_bytes(), "{sent}");
        }
    }
}
