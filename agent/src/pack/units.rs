//! Units that a column's name carries: `pressure [bar]`, `speed (km/h)`, `temp_c`.

/// Longest text between brackets that is taken for a unit.
const MAX_UNIT: usize = 12;

/// Last words that mean one unit whatever stands before them.
const SUFFIXES: [(&str, &str); 48] = [
    ("ms", "ms"),
    ("us", "µs"),
    ("ns", "ns"),
    ("sec", "s"),
    ("secs", "s"),
    ("seconds", "s"),
    ("min", "min"),
    ("minutes", "min"),
    ("hours", "h"),
    ("hz", "Hz"),
    ("khz", "kHz"),
    ("mhz", "MHz"),
    ("ghz", "GHz"),
    ("pa", "Pa"),
    ("hpa", "hPa"),
    ("kpa", "kPa"),
    ("bar", "bar"),
    ("mbar", "mbar"),
    ("psi", "psi"),
    ("mm", "mm"),
    ("cm", "cm"),
    ("km", "km"),
    ("um", "µm"),
    ("kg", "kg"),
    ("mg", "mg"),
    ("kw", "kW"),
    ("kwh", "kWh"),
    ("wh", "Wh"),
    ("mv", "mV"),
    ("kv", "kV"),
    ("ma", "mA"),
    ("volts", "V"),
    ("amps", "A"),
    ("watts", "W"),
    ("rpm", "rpm"),
    ("kmh", "km/h"),
    ("mps", "m/s"),
    ("ms2", "m/s²"),
    ("pct", "%"),
    ("percent", "%"),
    ("ppm", "ppm"),
    ("ppb", "ppb"),
    ("db", "dB"),
    ("lux", "lx"),
    ("deg", "°"),
    ("rad", "rad"),
    ("degc", "°C"),
    ("celsius", "°C"),
];

/// Last letters that mean a unit only after such a beginning of a word: `temp_c`, but not `vitamin_c`.
const LETTERS: [(&str, &[&str], &str); 14] = [
    ("c", &["temp", "dew", "ambient"], "°C"),
    ("f", &["temp", "dew", "ambient"], "°F"),
    ("k", &["temp"], "K"),
    ("v", &["volt", "batt", "supply"], "V"),
    ("a", &["curr", "amp"], "A"),
    ("w", &["power", "load"], "W"),
    ("m", &["dist", "height", "depth", "length", "width", "alt", "level", "pos"], "m"),
    ("s", &["time", "dur", "age", "uptime", "period", "delay"], "s"),
    ("h", &["time", "dur", "age", "uptime", "runtime"], "h"),
    ("g", &["acc", "vib"], "g"),
    ("g", &["mass", "weight"], "g"),
    ("n", &["force", "thrust"], "N"),
    ("j", &["energy", "work"], "J"),
    ("l", &["vol", "fill"], "l"),
];

/// The unit that a name carries; empty where it carries none.
pub(super) fn unit(name: &str) -> String {
    bracketed(name).or_else(|| suffixed(name)).unwrap_or_default()
}

/// What stands in brackets at the end.
fn bracketed(name: &str) -> Option<String> {
    let name = name.trim();
    let (open, inside) = match name.chars().next_back()? {
        ']' => ('[', name.strip_suffix(']')?),
        ')' => ('(', name.strip_suffix(')')?),
        _ => return None,
    };
    let (before, unit) = inside.rsplit_once(open)?;
    let unit = unit.trim();
    // `x[0]`, `f(1)`: an index; `[]`: nothing; a sentence: a remark.
    let is_unit = !unit.is_empty()
        && unit.chars().count() <= MAX_UNIT
        && !unit.chars().all(|c| c.is_ascii_digit())
        && !unit.contains(' ')
        && !before.trim().is_empty();
    is_unit.then(|| unit.to_owned())
}

fn suffixed(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(['_', ' ', '.', '-']).filter(|word| !word.is_empty()).collect();
    let (last, before) = words.split_last()?;
    if before.is_empty() {
        return None;
    }
    let always = SUFFIXES.iter().find(|(suffix, _)| suffix == last).map(|(_, unit)| *unit);
    let after =
        |begins: &[&str]| before.iter().any(|word| begins.iter().any(|begin| word.starts_with(begin)));
    let sometimes = || LETTERS.iter().find(|(letter, begins, _)| letter == last && after(begins));
    always.or_else(|| sometimes().map(|(_, _, unit)| *unit)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_off_names() {
        for (name, expected) in [
            ("temp_c", "°C"),
            ("Oil Temperature C", "°C"),
            ("temperature_f", "°F"),
            ("pressure [bar]", "bar"),
            ("speed (km/h)", "km/h"),
            ("humidity(%)", "%"),
            ("motor_current_a", "A"),
            ("flow-rate [l/min] ", "l/min"),
            ("vibration_g", "g"),
            ("spindle_rpm", "rpm"),
            ("interval_ms", "ms"),
            ("supply.mv", "mV"),
            ("vitamin_c", ""),
            ("class_a", ""),
            ("ms", ""),
            ("x[0]", ""),
            ("acc (in the frame of the car)", ""),
            ("(bar)", ""),
            ("plain", ""),
            ("", ""),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }
}
