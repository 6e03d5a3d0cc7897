//! Seeds made from the folder of the example city.

const PEOPLE: &str = include_str!("../../../../examples/wetzlar/einwohner.csv");

const BAD_ROWS: &str = include_str!("../../../../examples/wetzlar/bad-rows.csv");

pub(super) fn registers() -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<&str> = PEOPLE.lines().collect();
    let header = lines[0];
    let rows = |rows: &[&str], end: &str| rows.iter().map(|row| format!("{row}{end}")).collect::<String>();
    let numbers = BAD_ROWS.lines().skip(1).filter_map(|row| row.split(';').next()?.parse::<usize>().ok());
    let bad: Vec<&str> = std::iter::once(header).chain(numbers.map(|number| lines[number - 1])).collect();
    let quoted = lines[1].replacen("Friedrich-Ebert-Straße", "\"Am \"\"Alten\"\" Markt; Hof\"", 1);
    let open = lines[1].replacen("Friedrich", "\"Friedrich", 1);
    let columns: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    vec![
        ("valid-one", rows(&lines[..2], "\n").into_bytes()),
        ("valid-twenty", rows(&lines[..21], "\n").into_bytes()),
        ("valid-crlf", format!("\u{feff}{}\r\n\r\n", rows(&lines[..4], "\r\n")).into_bytes()),
        ("valid-quoted", rows(&[header, &quoted, lines[2]], "\n").into_bytes()),
        ("valid-open-quote", rows(&[header, &open, lines[2]], "\n").into_bytes()),
        ("bent-same-id", rows(&[header, lines[1], lines[1]], "\n").into_bytes()),
        ("valid-other-column", format!("{header};Notiz\n{};x\n", lines[3]).into_bytes()),
        ("bent-bad-rows", rows(&bad, "\n").into_bytes()),
        ("bent-empty", Vec::new()),
        ("bent-column", format!("{}\n{}\n", header.replacen("Kennung", "Nummer", 1), lines[1]).into_bytes()),
        ("bent-columns", columns.join(";").into_bytes()),
        ("bent-latin", [header.as_bytes(), b"\nStra\xdfe\n"].concat()),
        (
            "bent-long-field",
            format!("{header}\n{}\n", lines[1].replacen("Wetzlar", &"x".repeat(256), 1)).into_bytes(),
        ),
    ]
}

macro_rules! wetzlar {
    ($file:literal) => {
        include_str!(concat!("../../../../examples/wetzlar/", $file))
    };
}

pub(super) fn configurations() -> Vec<(&'static str, Vec<u8>)> {
    let city = wetzlar!("city.toml");
    let request = wetzlar!("requests/library-signup.toml");
    let card = wetzlar!("templates/library-card.toml");
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("valid-city", text(city)),
        ("valid-resident-card", text(wetzlar!("templates/resident-card.toml"))),
        ("valid-library-card", text(card)),
        ("valid-over-16", text(wetzlar!("requests/cafe-over-16.toml"))),
        ("valid-accepts", text(wetzlar!("requests/library-accepts.toml"))),
        ("valid-signup", text(request)),
        ("bent-ags", text(&city.replacen("06532023", "6532023", 1))),
        ("bent-delimiter", text(&city.replacen("\";\"", "\"x\"", 1))),
        ("bent-unknown", text(&format!("unknown = 1\n{city}"))),
        ("bent-days", text(&request.replacen("days = 0", "days = 4000", 1))),
        ("bent-vct", text(&card.replacen("urn:", "ftp:", 1))),
        ("bent-syntax", text("id = [")),
    ]
}
