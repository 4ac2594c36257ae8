//! Blobs in Garage, a real distributed S3 store: one node, then three with copies of everything, one and then two of which
//! are SIGKILLed. It needs the program `garage`, and is therefore a command of its own and no part of the drills.
//!
//! A store that lost one of three nodes still takes and gives every file. With two lost it fails, with an error that says so;
//! once one is back, every file that was confirmed is there.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use synckit_client::{BlobHash, SyncKitClient};

use super::{
    block_on,
    process::{Process, Programs, command, output_of},
    site::{Launch, Site, free_port},
};

/// The version that was tried.
const VERSION: &str = "2.5.0";
const BUCKET: &str = "files";
const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const RPC_SECRET: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
/// How long nodes may take to start, to find each other, or to come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sizes of the files: nothing, one block of the cipher, and several of Garage's blocks of 1 MiB.
const SIZES: [usize; 4] = [0, 17, 300_000, 5_000_000];

/// Finds Garage: the named program, or one in the path, or one that cargo installs below `directory`, which takes minutes.
///
/// # Errors
/// If it cannot be installed.
pub fn program(named: Option<PathBuf>, directory: &Path) -> anyhow::Result<PathBuf> {
    if let Some(program) = named {
        return Ok(program);
    }
    let in_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>())
        .map(|place| place.join("garage"))
        .find(|program| program.is_file());
    let installed = directory.join("bin/garage");
    if let Some(program) = in_path.or_else(|| installed.is_file().then(|| installed.clone())) {
        return Ok(program);
    }
    let mut install = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    install
        .args([
            "install",
            "garage",
            "--version",
            &format!("={VERSION}"),
            "--locked",
            "--debug",
        ])
        .args(["--no-default-features", "--features", "bundled-libs,sqlite", "--root"])
        .arg(directory)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("CARGO_TARGET_DIR");
    let status = install.status().context("cargo did not start")?;
    ensure!(status.success(), "Garage cannot be installed");
    Ok(installed)
}

/// Runs against one node and against three; returns what was shown.
///
/// # Errors
/// A promise that was not kept.
pub fn run(programs: &Programs, garage: &Path) -> anyhow::Result<String> {
    let one = Cluster::start(garage, 1)?;
    let site = site(programs, &one, 0)?;
    doctor(&site, &one)?;
    block_on(async {
        let files = Files::put(&site).await?;
        files.check().await?;
        files.delete_and_restore().await
    })?;
    drop((site, one));

    let mut three = Cluster::start(garage, 3)?;
    let site = self::site(programs, &three, 0)?;
    doctor(&site, &three)?;
    let mut seconds = 0.0;
    let (first, second) = block_on(async {
        let first = Files::put(&site).await?;
        three.kill(2)?;
        let started = Instant::now();
        first.check().await?;
        let second = Files::put_as(&site, 2).await?;
        second.check().await?;
        seconds = started.elapsed().as_secs_f64();
        Ok((first, second))
    })?;
    let refusal = block_on(async {
        three.kill(1)?;
        let Err(refusal) = second.laptop.blob_put(vec![1; 1000], |_| {}).await else {
            bail!("one node of three took a file alone");
        };
        three.restart(1)?;
        let came_back = Instant::now();
        while second.laptop.blob_put(vec![1; 1000], |_| {}).await.is_err() {
            ensure!(
                came_back.elapsed() < PATIENCE,
                "the store takes nothing after a node came back"
            );
        }
        first.check().await?;
        second.check().await?;
        Ok(refusal)
    })?;
    let count = SIZES.len();
    Ok(format!(
        "one node: {count} files up, down, deleted and restored; one of three nodes killed: {count} files read, {count} more \
         written and read, in {seconds:.1} s; two killed: {refusal}; one back: every file read"
    ))
}

/// Files of one user, and two of the user's devices.
struct Files {
    laptop: SyncKitClient,
    phone: SyncKitClient,
    place: PathBuf,
    files: Vec<(BlobHash, Vec<u8>)>,
}

impl Files {
    async fn put(site: &Site) -> anyhow::Result<Self> {
        Self::put_as(site, 1).await
    }

    async fn put_as(site: &Site, user: u64) -> anyhow::Result<Self> {
        let account = site.sign_up(&format!("user{user}"), 2).await?;
        let [laptop, phone] = account.devices.as_slice() else {
            bail!("two devices were asked for");
        };
        let (laptop, phone) = (site.resumed(&laptop.name)?, site.resumed(&phone.name)?);
        let mut files = Vec::new();
        for size in SIZES {
            let mut data = vec![0; size];
            StdRng::seed_from_u64(user + size as u64).fill_bytes(&mut data);
            files.push((laptop.blob_put(data.clone(), |_| {}).await?, data));
        }
        Ok(Self {
            laptop,
            phone,
            place: site.directory().join(format!("received{user}")),
            files,
        })
    }

    async fn check(&self) -> anyhow::Result<()> {
        for (hash, data) in &self.files {
            self.phone.blob_get(hash, &self.place, |_| {}).await?;
            ensure!(
                fs::read(&self.place)? == *data,
                "a file of {} bytes came back changed",
                data.len()
            );
        }
        Ok(())
    }

    async fn delete_and_restore(&self) -> anyhow::Result<()> {
        for (hash, data) in &self.files {
            self.laptop.blob_delete(hash).await?;
            ensure!(
                self.phone.blob_get(hash, &self.place, |_| {}).await.is_err(),
                "a deleted file came back"
            );
            self.laptop.blob_put(data.clone(), |_| {}).await?;
            self.laptop.blob_replace(data.clone(), |_| {}).await?;
        }
        self.check().await
    }
}

fn site(programs: &Programs, cluster: &Cluster, node: usize) -> anyhow::Result<Site> {
    let launch = Launch {
        arguments: cluster.arguments(node),
        environment: vec![("SYNCKIT_BUCKET_SECRET_KEY".into(), SECRET_KEY.into())],
        ..Launch::default()
    };
    Site::open(programs, launch)
}

/// The bucket round trip of `synckit doctor`.
fn doctor(site: &Site, cluster: &Cluster) -> anyhow::Result<()> {
    let arguments = cluster.arguments(0);
    let mut all = vec!["doctor", "--json", "--listen", "127.0.0.1:0"];
    all.extend(arguments.iter().map(String::as_str));
    // The machine's own findings decide the exit code.
    let found = site.output_of_admin(&all)?;
    let document: serde_json::Value = serde_json::from_str(&found)?;
    let findings = document["findings"].as_array().context("no findings")?;
    let bucket = findings.iter().find(|finding| finding["check"] == "bucket");
    let bucket = bucket.context("the doctor says nothing of the bucket")?;
    ensure!(bucket["state"] == "ok", "the doctor says: {bucket}");
    Ok(())
}

/// Nodes of Garage on loopback, in a directory of their own.
struct Cluster {
    garage: PathBuf,
    directory: tempfile::TempDir,
    nodes: Vec<Node>,
}

struct Node {
    directory: PathBuf,
    s3_port: u16,
    process: Option<Process>,
}

impl Cluster {
    fn start(garage: &Path, count: usize) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("synckit-garage-").tempdir()?;
        let mut cluster = Self {
            garage: garage.to_owned(),
            directory,
            nodes: Vec::new(),
        };
        for number in 0..count {
            let node = cluster.configure(number, count)?;
            cluster.nodes.push(node);
            cluster.restart(number)?;
        }
        let ids: Vec<String> = (0..count)
            .map(|number| Ok(cluster.ask(number, &["node", "id", "-q"])?.trim().to_owned()))
            .collect::<anyhow::Result<_>>()?;
        for id in ids.iter().skip(1) {
            cluster.ask(0, &["node", "connect", id])?;
        }
        for (number, id) in ids.iter().enumerate() {
            let id = id.split('@').next().unwrap_or(id);
            cluster.ask(0, &["layout", "assign", "-z", &format!("z{number}"), "-c", "1G", id])?;
        }
        cluster.ask(0, &["layout", "apply", "--version", "1"])?;
        cluster.ask(0, &["key", "import", "--yes", "-n", "drill", ACCESS_KEY, SECRET_KEY])?;
        cluster.ask(0, &["bucket", "create", BUCKET])?;
        cluster.ask(
            0,
            &[
                "bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", ACCESS_KEY,
            ],
        )?;
        Ok(cluster)
    }

    fn configure(&self, number: usize, count: usize) -> anyhow::Result<Node> {
        let directory = self.directory.path().join(number.to_string());
        fs::create_dir(&directory)?;
        let (s3_port, rpc_port) = (free_port()?, free_port()?);
        let (metadata, data) = (directory.join("meta"), directory.join("data"));
        let copies = if count < 3 { 1 } else { 3 };
        let text = format!(
            "metadata_dir = {metadata:?}\ndata_dir = {data:?}\ndb_engine = \"sqlite\"\nreplication_factor = {copies}\n\
             rpc_bind_addr = \"127.0.0.1:{rpc_port}\"\nrpc_public_addr = \"127.0.0.1:{rpc_port}\"\n\
             rpc_secret = \"{RPC_SECRET}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{s3_port}\"\n"
        );
        let file = directory.join("garage.toml");
        fs::write(&file, text)?;
        // Garage refuses a file with its secret that others may read.
        #[cfg(unix)]
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Node {
            directory,
            s3_port,
            process: None,
        })
    }

    /// Starts a node, and returns when it answers.
    fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        let garage = self.garage.clone();
        let node = self.nodes.get_mut(number).context("no such node")?;
        let mut start = command(garage);
        start.arg("-c").arg(node.directory.join("garage.toml")).arg("server");
        let log = node.directory.join("log");
        node.process = Some(Process::start(start, &log)?);
        let address = (Ipv4Addr::LOCALHOST, node.s3_port);
        let started = Instant::now();
        while TcpStream::connect(address).is_err() || self.ask_once(number, &["status"]).is_err() {
            ensure!(
                started.elapsed() < PATIENCE,
                "node {number} does not start: see {}",
                log.display()
            );
        }
        Ok(())
    }

    fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(number).context("no such node")?;
        node.process.take().context("it does not run")?.kill().map(drop)
    }

    /// Runs a command of Garage at a node, again until the cluster is ready for it.
    fn ask(&self, number: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            match self.ask_once(number, arguments) {
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
                Ok(output) => return Ok(output),
            }
        }
    }

    fn ask_once(&self, number: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let node = self.nodes.get(number).context("no such node")?;
        output_of(
            command(&self.garage)
                .arg("-c")
                .arg(node.directory.join("garage.toml"))
                .args(arguments),
        )
    }

    /// The settings of a server that uses a node.
    fn arguments(&self, number: usize) -> Vec<String> {
        let port = self.nodes.get(number).map_or(0, |node| node.s3_port);
        let address = format!("s3://{BUCKET}?endpoint=http://127.0.0.1:{port}&region=garage&prefix=synckit");
        ["--blobs", &address, "--bucket-access-key", ACCESS_KEY]
            .map(ToOwned::to_owned)
            .into()
    }
}
