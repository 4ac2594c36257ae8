//! A real nginx between device and server, configured as Debian does, with nothing but `proxy_pass` added.
//!
//! By default nginx speaks HTTP/1.0 to the server, collects answers before it passes them on, compresses texts, and gives up a
//! server that is silent for 60 s.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use synckit_client::{Cursor, MemoryStore, SyncKitClient, SyncKitConfig};

use crate::{
    interference::{Fate, Interference},
    world::{World, change, pull_all},
};

/// How often a port is chosen that another process then takes.
const TRIES_MAX: u32 = 5;

/// An nginx of one test.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one in front of a server, with its files in a folder.
    fn start(server: &str, folder: &Path) -> Self {
        for _ in 0..TRIES_MAX {
            // It is free again when the listener is dropped.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("nginx.conf"), configuration(server, address, folder)).unwrap();
            let child = program()
                .arg("-p")
                .arg(folder)
                .args(["-c", "nginx.conf", "-e", "stderr"])
                .stdin(Stdio::null())
                .spawn()
                .expect("nginx: run the tests by `cargo xtask test`, or install the Debian package nginx");
            let mut nginx = Self { child, address };
            while nginx.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return nginx;
                }
                std::thread::yield_now();
            }
        }
        panic!("nginx does not start");
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On Debian it is in a folder that not every user has on the path.
fn program() -> Command {
    let debian = Path::new("/usr/sbin/nginx");
    Command::new(if debian.exists() { debian } else { Path::new("nginx") })
}

/// Debian's nginx.conf, without what needs root, and with one process, which ends when it is killed.
fn configuration(server: &str, address: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{
    worker_connections 768;
}}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    access_log off;
    gzip on;
{temporary}    server {{
        listen {address};
        location / {{
            proxy_pass {server};
        }}
    }}
}}
"
    )
}

#[tokio::test]
async fn push_is_heard_through_nginx() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (server, folder) = (world.url(), world.file("nginx"));
    let nginx = tokio::task::spawn_blocking(move || Nginx::start(&server, &folder))
        .await
        .unwrap();

    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let counting = Interference::new(move |request| {
        if request.uri().path() == "/api/sync/status" {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Fate::Delivered
    });
    let config = SyncKitConfig {
        server_url: nginx.url(),
        ..world.config()
    };
    let phone = SyncKitClient::builder(config)
        .credential_store(MemoryStore::default())
        .transport(counting)
        .build();
    phone.authenticate(&user.email, &user.password).await.unwrap();
    phone.setup_encryption_existing(&user.password).await.unwrap();
    let phone_id = phone.register_device("phone", "ios").await.unwrap().id;

    let mut news = phone.subscribe().await.unwrap();
    news.changed().await.unwrap();
    let mut cursor = Cursor::START;
    for row in ["1", "2"] {
        laptop.push(laptop_id, vec![change("notes", row)]).await.unwrap();
        news.changed().await.unwrap();
        let (changes, next) = pull_all(&phone, phone_id, cursor).await.unwrap();
        assert_eq!(changes, [change("notes", row)]);
        cursor = next;
    }
    // Where nginx holds events back, the SDK polls.
    assert_eq!(polls.load(Ordering::SeqCst), 0);
}
