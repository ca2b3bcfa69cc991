use super::*;

fn resolve(line: &str, environment: &[(&str, &str)]) -> Result<(Settings, Notes), SettingsError> {
    let line = std::iter::once("etcdctl").chain(line.split(' '));
    let matches = crate::ctl::command().try_get_matches_from(line).unwrap();
    let environment: Vec<Variable> =
        environment.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let mut deepest = &matches;
    while let Some((_, matches)) = deepest.subcommand() {
        deepest = matches;
    }
    Settings::resolve(deepest, &environment)
}

fn settings(line: &str, environment: &[(&str, &str)]) -> Settings {
    resolve(line, environment).unwrap().0
}

fn check_failure(line: &str, environment: &[(&str, &str)], exit: Exit, message: &str) {
    let expected = SettingsError::Failure(Failure::new(exit, message));
    assert_eq!(resolve(line, environment).unwrap_err(), expected);
}

#[test]
fn flags_have_defaults() {
    let settings = settings("get a", &[]);
    assert_eq!(settings.endpoints, ["127.0.0.1:2379"]);
    assert_eq!((settings.format, settings.hex), (Format::Simple, false));
    assert_eq!(settings.command_timeout, Duration::from_secs(5));
    assert_eq!(settings.connect.connect_timeout, Duration::from_secs(2));
    assert_eq!((settings.request_limit, settings.answer_limit), (2 << 20, usize::MAX));
}

#[test]
fn flags_stand_before_or_behind_the_command() {
    assert_eq!(settings("-w json get a", &[]).format, Format::Json);
    assert_eq!(settings("get a -wjson", &[]).format, Format::Json);
    assert_eq!(settings("get a --write-out=fields --write-out json", &[]).format, Format::Json);
    assert!(!settings("get --hex=true --hex=false a", &[]).hex);
    assert_eq!(settings("--endpoints a:1,b:2 lease list --endpoints c:3", &[]).endpoints, ["c:3"]);
    assert_eq!(settings("get a --endpoints a:1,b:2 --endpoints c:3", &[]).endpoints, ["a:1", "b:2", "c:3"]);
    assert_eq!(settings("get a --dial-timeout 1m0.5s", &[]).connect.connect_timeout.as_millis(), 60_500);
}

#[test]
fn the_environment_fills_in() {
    let environment = [
        ("ETCDCTL_ENDPOINTS", "a:1, b:2"),
        ("ETCDCTL_WRITE_OUT", "json"),
        ("ETCDCTL_HEX", "1"),
        ("ETCDCTL_COMMAND_TIMEOUT", "9s"),
        ("ETCDCTL_KEEPALIVE_TIME", "0s"),
        ("ETCDCTL_WATCH_KEY", "k"),
        ("ETCDCTL_API", "3"),
        ("ETCDCTL_CERT", ""),
        ("OTHER", "1"),
    ];
    let (settings, notes) = resolve("get a", &environment).unwrap();
    assert_eq!(settings.endpoints, ["a:1", "b:2"]);
    assert_eq!((settings.format, settings.hex), (Format::Json, true));
    assert_eq!(settings.command_timeout, Duration::from_secs(9));
    assert_eq!(settings.connect.keep_alive_interval, None);
    assert_eq!(notes.unrecognized, ["ETCDCTL_API=3", "ETCDCTL_CERT="]);
    assert!(notes.options.is_empty());
}

#[test]
fn flag_and_environment_together_are_refused() {
    let conflict = SettingsError::Conflict("ETCDCTL_DIAL_TIMEOUT".to_owned());
    let environment = [("ETCDCTL_DIAL_TIMEOUT", "3s")];
    assert_eq!(resolve("get a --dial-timeout 2s", &environment).unwrap_err(), conflict);
}

#[test]
fn what_is_not_built_is_refused() {
    let unsupported = |what: &str| format!("{what} is not supported by this version");
    check_failure("get a --cert x", &[], Exit::BadFeature, &unsupported("TLS (--cert)"));
    check_failure(
        "get a",
        &[("ETCDCTL_USER", "root")],
        Exit::BadFeature,
        &unsupported("authentication (--user)"),
    );
    let transport = unsupported("TLS (--insecure-transport=false)");
    check_failure("get a --insecure-transport=false", &[], Exit::BadFeature, &transport);
    assert!(resolve("get a --insecure-skip-tls-verify --insecure-discovery=false", &[]).is_ok());
}

#[test]
fn bad_values_are_refused() {
    check_failure("get a -w bogus", &[], Exit::BadFeature, "unsupported output format");
    check_failure("get a --cert=", &[], Exit::BadArguments, "empty string is passed to --cert option");
    check_failure(
        "get a",
        &[("ETCDCTL_HEX", "maybe")],
        Exit::Error,
        "invalid argument \"maybe\" for \"--hex\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
    );
}

#[test]
fn debug_lists_the_options() {
    let (_, notes) = resolve("get a --debug --endpoints a:1,b:2", &[]).unwrap();
    assert_eq!(notes.options.len(), globals().len());
    assert!(notes.options.contains(&"ETCDCTL_ENDPOINTS=[a:1 b:2]".to_owned()), "{:?}", notes.options);
    assert!(notes.options.contains(&"ETCDCTL_COMMAND_TIMEOUT=5s".to_owned()));
    assert!(notes.options.contains(&"ETCDCTL_DEBUG=true".to_owned()));
}
