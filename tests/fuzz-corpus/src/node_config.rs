//! The target `node_config`: a node's own `einmal.toml`.

use einmal::config::{Config, MAX_CONFIG_BYTES, check_public_url};

/// Reads `bytes` as a node's configuration; accepted ones must stay equal when written and read again.
pub fn node_config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return false;
    }
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(problem) => {
            assert!(!problem.is_empty(), "a refusal says why");
            return false;
        }
    };
    if let Some(url) = &config.public_url {
        assert!(check_public_url(url).is_ok());
    }
    let written = write(&config);
    let again = Config::parse(&written).expect("what was read is written so that it reads again");
    assert_eq!(write(&again), written, "a configuration changed by writing and reading it");
    true
}

fn write(config: &Config) -> String {
    toml::to_string_pretty(config).expect("a configuration can be written")
}
