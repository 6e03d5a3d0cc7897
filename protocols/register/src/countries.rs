//! Public code tables: nationalities (ISO 3166-1) and German states (first digits of a municipality key).

/// ISO 3166-1 alpha-2, as assigned; sorted.
const ALPHA_2: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS \
BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK \
FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM \
JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS \
MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW \
SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM \
US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// Codes that registers need beyond ISO: Kosovo, and ICAO 9303's stateless and unspecified.
const BESIDE_ISO: [&str; 3] = ["XK", "XXA", "XXX"];

/// Whether `code` is a nationality a register may hold.
pub(crate) fn is_nationality(code: &str) -> bool {
    BESIDE_ISO.contains(&code) || ALPHA_2.split(' ').any(|known| known == code)
}

/// Whether `code` names a state that one can be a citizen of, so that a credential may carry it.
pub(crate) fn is_country(code: &str) -> bool {
    code.len() == 2 && is_nationality(code)
}

/// The German state of a municipality key, as an ISO 3166-2 code.
///
/// `key` is an Amtlicher Gemeindeschlüssel, eight digits; `None` for any other text or for a state that does not exist.
pub fn region_of_municipality(key: &str) -> Option<&'static str> {
    if key.len() != 8 || !key.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(match key.get(..2)? {
        "01" => "DE-SH",
        "02" => "DE-HH",
        "03" => "DE-NI",
        "04" => "DE-HB",
        "05" => "DE-NW",
        "06" => "DE-HE",
        "07" => "DE-RP",
        "08" => "DE-BW",
        "09" => "DE-BY",
        "10" => "DE-SL",
        "11" => "DE-BE",
        "12" => "DE-BB",
        "13" => "DE-MV",
        "14" => "DE-SN",
        "15" => "DE-ST",
        "16" => "DE-TH",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_assigned_code_once_and_sorted() {
        let codes: Vec<&str> = ALPHA_2.split(' ').collect();
        assert_eq!(codes.len(), 249);
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn unknown_nationalities_are_refused() {
        assert!(is_nationality("DE") && is_nationality("XXA") && !is_country("XXA"));
        for code in ["ZZ", "de", "", "DEU", "D", "AD AE", " "] {
            assert!(!is_nationality(code), "{code:?}");
        }
    }

    #[test]
    fn states_are_read_from_the_key() {
        assert_eq!(region_of_municipality("06532023"), Some("DE-HE"));
        for key in ["17000000", "00000000", "6532023", "0653202x", ""] {
            assert_eq!(region_of_municipality(key), None);
        }
    }
}
