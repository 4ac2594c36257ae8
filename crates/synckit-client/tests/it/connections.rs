//! Connections as an app configures them: its certificates, its proxy, its name.

use std::{net::SocketAddr, sync::Arc};

use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig, transport::TransportError};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::world::World;

const AUTHORITY: &str = include_str!("tls/ca.pem");

/// A proxy with TLS in front of a server. It ends with its runtime.
async fn tls_in_front_of(world: &World) -> String {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server: SocketAddr = world.url().trim_start_matches("http://").parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else {
                    return;
                };
                let mut outside = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn certificates_of_the_bundle_are_trusted() {
    let world = World::start().await;
    let user = world.user().await;
    let config = SyncKitConfig {
        server_url: tls_in_front_of(&world).await,
        ..world.config()
    };
    let builder = SyncKitClient::builder(config).credential_store(MemoryStore::default());
    let client = builder.clone().ca_bundle(AUTHORITY).build();
    client.authenticate(&user.email, &user.password).await.unwrap();

    // Without the bundle, nobody trusts this authority; with another, neither.
    for client in [
        builder.clone().build(),
        builder.ca_bundle(include_str!("tls/server.pem")).build(),
    ] {
        let error = client.authenticate(&user.email, &user.password).await.unwrap_err();
        let text = synckit_client::ErrorChain(&error).to_string();
        assert!(
            matches!(error, Error::Network(TransportError::Connection(_))),
            "{error:?}"
        );
        assert!(text.contains("certificate"), "{text}");
    }
}

/// The lines of the head of the first request that comes in.
async fn first_head(listener: TcpListener) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut head = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
        head.push(line.to_lowercase());
    }
    head
}

#[tokio::test]
async fn requests_go_through_the_given_proxy() {
    let world = World::start().await;
    let user = world.user().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://me:secret@{}", listener.local_addr().unwrap());
    let builder = |server_url: String| {
        SyncKitClient::builder(SyncKitConfig {
            server_url,
            ..world.config()
        })
        .credential_store(MemoryStore::default())
        .proxy(&proxy)
    };
    assert!(!format!("{:?}", builder(world.url())).contains("secret"));
    // Requests to loopback do not: the listener would not answer them.
    let near = builder(world.url()).build();
    near.authenticate(&user.email, &user.password).await.unwrap();

    let far = builder("https://sync.example.com".to_owned())
        .user_agent("notes/1.4")
        .build();
    let request = tokio::spawn(async move { far.request_password_reset("me@example.com").await });
    let head = first_head(listener).await;
    assert_eq!(head[0], "connect sync.example.com:443 http/1.1");
    let credentials = "proxy-authorization: basic bwu6c2vjcmv0".to_owned();
    assert!(
        head.contains(&credentials) && head.contains(&"user-agent: notes/1.4".to_owned()),
        "{head:?}"
    );
    assert!(matches!(request.await.unwrap(), Err(Error::Network(_))));
}

#[tokio::test]
async fn server_sees_the_given_user_agent() {
    for (user_agent, seen) in [
        (Some("notes/1.4"), "user-agent: notes/1.4".to_owned()),
        (
            None,
            concat!("user-agent: synckit/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut builder = SyncKitClient::builder(SyncKitConfig {
            server_url: format!("http://{}", listener.local_addr().unwrap()),
            api_key: String::new(),
        })
        .credential_store(MemoryStore::default());
        if let Some(user_agent) = user_agent {
            builder = builder.user_agent(user_agent);
        }
        let client = builder.build();
        let request = tokio::spawn(async move { client.request_password_reset("me@example.com").await });
        let head = first_head(listener).await;
        assert!(head.contains(&seen), "{head:?}");
        request.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn unusable_options_fail_the_first_call() {
    let builder = SyncKitClient::builder(SyncKitConfig {
        server_url: "https://sync.example.com".into(),
        api_key: String::new(),
    })
    .credential_store(MemoryStore::default());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (expected, builder) in [
        ("ca_bundle", builder.clone().ca_bundle("")),
        ("ca_bundle", builder.clone().ca_bundle(broken)),
        ("proxy", builder.clone().proxy("proxy.example.com:3128")),
        ("proxy", builder.clone().proxy("socks5://proxy.example.com")),
        ("user_agent", builder.user_agent("two\nlines")),
    ] {
        let error = builder
            .build()
            .request_password_reset("me@example.com")
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { argument, .. } if argument == expected),
            "{expected}: {error:?}"
        );
    }
}
