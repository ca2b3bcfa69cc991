use super::*;

fn check(text: &str, expected: Result<(&str, u16), &str>) {
    match (text.parse::<Endpoint>(), expected) {
        (Ok(endpoint), Ok((host, port))) => {
            assert_eq!((endpoint.host(), endpoint.port()), (host, port), "{text}");
        }
        (Err(error), Err(part)) => {
            assert!(error.to_string().contains(part), "{text}: {error} does not say {part:?}");
        }
        (got, expected) => panic!("{text}: {got:?}, expected {expected:?}"),
    }
}

#[test]
fn endpoints_are_host_and_port() {
    check("localhost:2379", Ok(("localhost", 2379)));
    check("http://10.0.0.1:2379", Ok(("10.0.0.1", 2379)));
    check("http://10.0.0.1:2379/", Ok(("10.0.0.1", 2379)));
    check("http://[::1]:2379", Ok(("::1", 2379)));
    check("[::1]:2379", Ok(("::1", 2379)));
}

#[test]
fn other_endpoints_are_refused_with_a_reason() {
    check("https://localhost:2379", Err("https is not supported"));
    check("unix:///run/detcd.sock", Err("unix is not supported"));
    check("unix:/run/detcd.sock", Err("unix is not supported"));
    for malformed in
        ["", "localhost", "http://", "http://:2379", "ftp://h:1", "h:99999", "h:1/path", "u@h:1", "a b:1"]
    {
        check(malformed, Err("host:port"));
    }
}
