//! When a node's disk is full.

use crate::cluster::load::prune::Disk;

/// A disk is full when more of it is used, in percent. The kubelet's own collection of images begins there as well,
/// where it is on: kind turns it off.
pub const FULL_PERCENT: u64 = 85;

/// A disk is full when less of it is free, in bytes: 5 GiB, since two images of a large service are as much.
pub const LEAST_FREE: u64 = 5 << 30;

/// The fullest of the disks that are full.
pub fn fullest(disks: &[Disk]) -> Option<&Disk> {
    disks
        .iter()
        .filter(|disk| is_full(disk))
        .max_by_key(|disk| used_percent(disk))
}

/// How much of a disk is used, in percent, rounded down.
pub fn used_percent(disk: &Disk) -> u64 {
    let used = u128::from(disk.size.saturating_sub(disk.free)) * 100;
    u64::try_from(used / u128::from(disk.size.max(1))).unwrap_or(100)
}

fn is_full(disk: &Disk) -> bool {
    disk.size > 0 && (used_percent(disk) >= FULL_PERCENT || disk.free < LEAST_FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_by_share_or_by_what_is_free() {
        const GIB: u64 = 1 << 30;
        let disk = |size, free| Disk {
            node: format!("{size}"),
            size: size * GIB,
            free: free * GIB,
        };
        let full = |size, free| fullest(&[disk(size, free)]).is_some();
        assert!(!full(100, 16) && full(100, 15), "85 % are used");
        assert!(!full(20, 5) && full(20, 4), "less than 5 GiB are free");
        assert!(!full(0, 0), "a node that does not say");
        let disks = [disk(100, 14), disk(200, 10), disk(300, 200)];
        assert_eq!(fullest(&disks).unwrap().node, "200");
    }
}
