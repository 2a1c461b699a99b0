//! Certificates for an engine that listens with TLS, as minikube makes them.

use std::path::Path;
use std::process::Command;

/// Makes `ca.pem`, `cert.pem` and `key.pem` for clients, `server.pem` and `server-key.pem` for a server at 127.0.0.1.
pub fn make_certificates(folder: &Path) {
    let script = "set -e; cd \"$0\"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=ca -keyout ca-key.pem -out ca.pem
        for name in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name-key.pem -out $name.csr
            printf 'subjectAltName=IP:127.0.0.1' > ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 1 -extfile ext -out $name.pem
        done
        cp client.pem cert.pem; cp client-key.pem key.pem";
    let made = Command::new("sh")
        .args(["-c", script])
        .arg(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}
