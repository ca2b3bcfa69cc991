//! The URLs that a member may be reached at: a scheme, a host and a port, nothing else.

use crate::types::RequestError;

/// Checks the URLs of a `MemberAdd`, and sorts them.
///
/// # Errors
/// `BadMemberUrls` when there are none or one cannot be a member's URL; see [`parse_urls`].
pub fn check_member_urls(urls: &[String]) -> Result<Vec<String>, RequestError> {
    parse_urls(urls.iter().map(String::as_str)).map_err(|_| RequestError::BadMemberUrls)
}

/// Checks URLs, and gives them sorted and without space around them.
///
/// They are `http://host:port` or `https://host:port` without a path, or `unix://` or `unixs://` with
/// anything. A host is a name, an IPv4 address, or an IPv6 address in brackets.
///
/// # Errors
/// A sentence that names the first bad URL, in etcd's words; or says that there are none.
pub fn parse_urls<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let mut parsed = Vec::new();
    for url in urls {
        let url = url.trim();
        check_url(url)?;
        parsed.push(url.to_owned());
    }
    if parsed.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    parsed.sort();
    Ok(parsed)
}

fn check_url(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match scheme {
        "http" | "https" => {
            let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(authority_end);
            if !is_host_and_port(authority) {
                return Err(format!("URL address does not have the form \"host:port\": {url}"));
            }
            if !path.is_empty() {
                return Err(format!("URL must not contain a path: {url}"));
            }
            Ok(())
        }
        "unix" | "unixs" => Ok(()),
        _ => Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
}

fn is_host_and_port(authority: &str) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = |text: &str| !text.contains(|c: char| "[]@\\".contains(c) || c.is_whitespace());
    let host_is_good = match bracketed {
        Some(address) => address.contains(':') && plain(address),
        None => !host.contains(':') && plain(host),
    };
    let port_is_good = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    host_is_good && port_is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, good: bool) {
        let expected = if good { Ok(vec![url.to_owned()]) } else { Err(RequestError::BadMemberUrls) };
        assert_eq!(check_member_urls(&[url.to_owned()]), expected, "{url}");
    }

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        for good in ["http://localhost:2380", "https://10.0.0.1:1", "http://[::1]:2380", "http://:2380"] {
            check(good, true);
        }
        for good in ["unix://localhost:2380", "unixs:///run/peer.sock", "http://[fe80::1%25eth0]:2380"] {
            check(good, true);
        }
        for bad in ["", "localhost:2380", "ftp://localhost:2380", "http://localhost", "http://localhost:"] {
            check(bad, false);
        }
        for bad in ["http://a:1/", "http://a:1/path", "http://a:1?q", "http://a:+1", "http://a:65536"] {
            check(bad, false);
        }
        for bad in ["http://::1:2380", "http://[a]:1", "http://u@a:1", "http://a b:1", "http:a:1"] {
            check(bad, false);
        }
    }

    #[test]
    fn urls_are_sorted_and_trimmed_and_there_is_one_at_least() {
        assert_eq!(
            parse_urls([" http://b:1", "http://a:1 "]),
            Ok(vec!["http://a:1".into(), "http://b:1".into()])
        );
        assert_eq!(check_member_urls(&[]), Err(RequestError::BadMemberUrls));
        let error = parse_urls(["http://a:1", "http://b"]).unwrap_err();
        assert_eq!(error, "URL address does not have the form \"host:port\": http://b");
    }
}
