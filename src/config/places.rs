//! Finds addresses of one gateway that are the same although they are written differently: the second could not be
//! bound, or would take connections from the first.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use crate::listen::ListenAddress;

/// Whether a process cannot listen on both at once.
pub(super) fn collide(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => ports_collide(*one, *other, is_dual_stack()),
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => is_same_socket(one, other),
        (ListenAddress::Passed(one), ListenAddress::Passed(other)) => one == other,
        // Of a socket that is passed in only the name is known.
        (ListenAddress::Tcp(_) | ListenAddress::Unix(_) | ListenAddress::Passed(_), _) => false,
    }
}

/// Whether two addresses with one port are equal, or one of them includes the other.
fn ports_collide(one: SocketAddr, other: SocketAddr, dual_stack: bool) -> bool {
    let covers = |all: IpAddr, one: IpAddr| match all {
        IpAddr::V4(all) => all.is_unspecified() && one.is_ipv4(),
        IpAddr::V6(all) => all.is_unspecified() && (one.is_ipv6() || dual_stack),
    };
    let [a, b] = [one, other].map(|address| address.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Whether a listener on `[::]` also accepts IPv4 on this machine.
fn is_dual_stack() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|only| only.trim() == "0")
}

/// Whether two paths lead to one socket, also through links of existing directories.
pub(super) fn is_same_socket(one: &Path, other: &Path) -> bool {
    one == other || whole(one) == whole(other)
}

fn whole(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let plain = || {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => drop(plain.pop()),
                Component::CurDir => {}
                part => plain.push(part),
            }
        }
        plain
    };
    // Only the last part may be missing; the directories must exist.
    let directory = path.parent().and_then(|directory| directory.canonicalize().ok());
    match (directory, path.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        _ => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_one_port_collide_if_one_includes_the_other() {
        let collide = |one: &str, other: &str, dual| ports_collide(one.parse().unwrap(), other.parse().unwrap(), dual);
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "[::ffff:127.0.0.1]:80"),
            ("[::]:80", "[::1]:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
        ] {
            assert!(collide(one, other, true) && collide(other, one, true), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0:0", "127.0.0.1:0"),
        ] {
            assert!(!collide(one, other, true) && !collide(other, one, true), "{one} {other}");
        }
        assert!(!collide("[::]:80", "0.0.0.0:80", false) && collide("[::]:80", "[::1]:80", false));
    }

    #[test]
    fn a_socket_is_the_same_however_its_path_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir(at("run")).unwrap();
        std::os::unix::fs::symlink("run", at("link")).unwrap();
        for other in ["run/./a.sock", "run/../run/a.sock", "run//a.sock", "link/a.sock"] {
            assert!(is_same_socket(&at("run/a.sock"), &at(other)), "{other}");
        }
        assert!(is_same_socket(&at("not/there/a.sock"), &at("not/../not/there/a.sock")));
        for other in ["run/b.sock", "a.sock", "not/a.sock"] {
            assert!(!is_same_socket(&at("run/a.sock"), &at(other)), "{other}");
        }
    }
}
