//! The golden world of this test process.

use std::sync::{Arc, OnceLock};

use synckit_sim::golden::Golden;

/// Made by the first test that needs it.
pub(crate) fn golden() -> &'static Arc<Golden> {
    static GOLDEN: OnceLock<Arc<Golden>> = OnceLock::new();
    // On a thread of its own, because it runs a runtime, and the test that comes first may be in one.
    GOLDEN.get_or_init(|| std::thread::spawn(|| Arc::new(Golden::make().unwrap())).join().unwrap())
}
