//! Other sides than CoinGecko: TLS with certificates good and bad, and a proxy.
#![allow(unreachable_pub, reason = "as in `support`")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::Server;

/// A certificate with its key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// What a certificate of a server says.
#[derive(Clone, Copy)]
pub struct Leaf {
    pub host: &'static str,
    pub years: (i32, i32),
}

impl Default for Leaf {
    fn default() -> Self {
        Self { host: "", years: (2001, 2101) }
    }
}

impl Leaf {
    fn params(self) -> CertificateParams {
        let hosts = if self.host.is_empty() { vec!["localhost".to_owned(), "127.0.0.1".to_owned()] } else { vec![self.host.to_owned()] };
        let mut params = CertificateParams::new(hosts).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(self.years.0, 1, 1), date_time_ymd(self.years.1, 1, 1));
        params
    }

    pub fn self_signed(self) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params().self_signed(&key).unwrap();
        Certificate { chain: vec![certificate.der().clone()], key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) }
    }
}

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    pub fn signs(&self, leaf: &Leaf) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.params().signed_by(&key, &self.issuer).unwrap();
        Certificate { chain: vec![certificate.der().clone()], key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) }
    }
}

/// TLS before a server that speaks plainly, as long as the test lives.
pub struct TlsFront {
    port: u16,
    version: Arc<Mutex<String>>,
}

impl TlsFront {
    pub fn before(server: &Server, certificate: Certificate) -> Self {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(certificate.chain, certificate.key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind: SocketAddr = server.url().trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
        let version = Arc::new(Mutex::new(String::new()));
        let spoken = Arc::clone(&version);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (listener, acceptor) = (tokio::net::TcpListener::from_std(listener).unwrap(), TlsAcceptor::from(Arc::new(config)));
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, spoken) = (acceptor.clone(), Arc::clone(&spoken));
                    tokio::spawn(async move {
                        // Who does not like the certificate hangs up.
                        let Ok(mut stream) = acceptor.accept(stream).await else { return };
                        *spoken.lock().unwrap() = stream.get_ref().1.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default();
                        let mut behind = tokio::net::TcpStream::connect(behind).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                    });
                }
            });
        });
        Self { port, version }
    }

    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/api/v3", self.port)
    }

    pub fn version(&self) -> String {
        self.version.lock().unwrap().clone()
    }
}

/// A server that knows an old version of TLS alone, as `[3, 2]` for 1.1: it greets so, whatever it is told.
pub fn old_tls(version: [u8; 2]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/api/v3", listener.local_addr().unwrap().port());
    // ServerHello: version, 32 random bytes, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
    let mut hello = vec![2, 0, 0, 38, version[0], version[1]];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    let mut record = vec![22, version[0], version[1], 0, u8::try_from(hello.len()).unwrap()];
    record.extend(hello);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&record);
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    url
}

/// A proxy that lets nobody through, and echoes who asked.
pub struct Proxy {
    port: u16,
    heard: Arc<Mutex<String>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(String::new()));
        let hears = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let credentials = head.lines().find(|line| line.to_lowercase().starts_with("proxy-authorization")).unwrap_or_default();
                let _ = write!(
                    stream,
                    "HTTP/1.1 407 {credentials}\r\nProxy-Authenticate: Basic realm=\"{credentials}\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{credentials}",
                    credentials.len()
                );
                hears.lock().unwrap().push_str(&head);
            }
        });
        Self { port, heard }
    }

    pub fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}127.0.0.1:{}", self.port)
    }

    pub fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}
