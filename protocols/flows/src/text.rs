//! Makes text that peers wrote for people safe to show.

/// At most `most` characters of `text`, without control characters and without those that change the reading order.
pub fn for_display(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c == '\n' || !(c.is_control() || turns_order(*c))).take(most).collect()
}

/// Bidirectional controls, which can make a text read as another.
fn turns_order(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_go_and_length_is_bounded() {
        assert_eq!(for_display("a\u{1b}[31m\u{202e}b\nc", 100), "a[31mb\nc");
        assert_eq!(for_display("äöü", 2), "äö");
    }
}
