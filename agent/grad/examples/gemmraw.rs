use shoal_grad::kernel::gemm::*;
use std::time::Instant;
fn main() {
    for [m, n, k] in [
        [512, 512, 512],
        [64, 1024, 320],
        [64, 64, 320],
        [64, 32, 320],
        [32, 256, 288],
        [32, 64, 288],
        [64, 64, 576],
        [64, 320, 32],
        [320, 32, 64],
        [1024, 64, 320],
        [96, 1024, 320],
        [64, 1024, 640],
    ] {
        let a = vec![0.5f32; m * k];
        let b = vec![0.5f32; n * k];
        let mut c = vec![0f32; m * n];
        let mut line = format!("{m} {n} {k}: ");
        for (at, bt) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut best = f64::INFINITY;
            for _ in 0..7 {
                let reps = 20_000_000 / (m * n * k) + 1;
                let t = Instant::now();
                for _ in 0..reps {
                    dense([m, n, k], 1.0, (&a, at), (&b, bt), 0.0, &mut c);
                }
                best = best.min(t.elapsed().as_secs_f64() / reps as f64);
            }
            line += &format!(" {:6.1}", (m * n * k) as f64 / best * 1e-9);
        }
        println!("{line} GMAC/s");
    }
}
