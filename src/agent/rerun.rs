//! Starting a container's program anew where it runs.
//!
//! When a container's first process ends, the container ends with it: the kubelet makes a new one, without the files
//! that were synced, and from the second time on only after a pause that doubles. So the process does not end. It is
//! made to become its own program again: stopped, and through `ptrace` given the system calls that lead to an `execve`
//! of what the container was started with. This needs nothing in the image, and nothing in the pod's definition.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Deserialize;

/// How long the other processes of the container have to end by themselves.
const GRACE: Duration = Duration::from_millis(500);
/// More children than these are not taken leave of.
const CHILDREN: usize = 1024;

/// Where runtimes have what a container was started with: before its id, and after it. containerd, Docker with one of
/// its own and beside another, CRI-O.
const BUNDLES: [(&str, &str); 4] = [
    ("/run/containerd/io.containerd.runtime.v2.task/k8s.io", ""),
    ("/run/containerd/io.containerd.runtime.v2.task/moby", ""),
    (
        "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby",
        "",
    ),
    ("/run/containers/storage/overlay-containers", "userdata"),
];

/// What a container was started with.
#[derive(Debug, Deserialize)]
struct Start {
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    cwd: String,
    user: User,
}

#[derive(Debug, Deserialize)]
struct User {
    uid: u32,
}

/// Starts the program of a container anew. `pid`: its first process; `others`: its other processes.
pub fn rerun(container: &str, pid: u32, others: impl Fn() -> Vec<u32>) -> io::Result<()> {
    let start = Start::of(container)?;
    let uid = status(pid, "Uid:")?
        .split_whitespace()
        .next()
        .and_then(|uid| uid.parse().ok());
    if uid != Some(start.user.uid) {
        return Err(io::Error::other(
            "it runs as another user than it was started as",
        ));
    }
    let traced = Traced::stop(pid)?;
    end(&others);
    traced.become_anew(&start)
}

impl Start {
    /// From the runtime, which has it for as long as the container runs.
    fn of(container: &str) -> io::Result<Start> {
        #[derive(Deserialize)]
        struct Bundle {
            process: Start,
        }
        let text = BUNDLES.iter().find_map(|(folder, below)| {
            fs::read(
                Path::new(folder)
                    .join(container)
                    .join(below)
                    .join("config.json"),
            )
            .ok()
        });
        let text = text.ok_or_else(|| io::Error::other("what it was started with is not known"))?;
        let Bundle { process } = serde_json::from_slice(&text)?;
        Ok(process)
    }

    /// Where the program may be, in the order of the container's `PATH`.
    fn programs(&self) -> Vec<String> {
        let name = self.args.first().map_or("", String::as_str);
        if name.contains('/') {
            return vec![name.to_owned()];
        }
        let path = self.env.iter().find_map(|one| one.strip_prefix("PATH="));
        let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        path.split(':')
            .map(|folder| format!("{folder}/{name}"))
            .collect()
    }
}

/// Ends processes: asked first, then made to.
fn end(processes: &impl Fn() -> Vec<u32>) {
    let deadline = Instant::now() + GRACE;
    let mut signal = Signal::SIGTERM;
    loop {
        let left = processes();
        if left.is_empty() {
            return;
        }
        let late = Instant::now() > deadline;
        if signal == Signal::SIGTERM || late {
            // Whoever is gone meanwhile need not be told.
            for pid in left {
                let _ = kill(pid_of(pid), if late { Signal::SIGKILL } else { signal });
            }
            signal = Signal::SIGKILL;
        }
        if late && Instant::now() > deadline + GRACE {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that is stopped, and does what it is told.
struct Traced {
    pid: Pid,
    memory: File,
    regs: arch::Regs,
    /// Where a system call instruction is, in the page that the kernel gives every process.
    gate: u64,
}

impl Traced {
    fn stop(pid: u32) -> io::Result<Traced> {
        let memory = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"))?;
        let gate = gate(pid, &memory)?;
        let pid = pid_of(pid);
        // All threads, so that none of them acts on what happens to its children.
        kill(pid, Signal::SIGSTOP)?;
        let regs = Self::seize(pid).inspect_err(|_| {
            let _ = kill(pid, Signal::SIGCONT);
        })?;
        Ok(Traced {
            pid,
            memory,
            regs,
            gate,
        })
    }

    fn seize(pid: Pid) -> io::Result<arch::Regs> {
        let deadline = Instant::now() + GRACE;
        while !status(pid.as_raw().unsigned_abs(), "State:")?
            .trim()
            .starts_with('T')
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        ptrace::seize(
            pid,
            ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACEEXEC,
        )?;
        ptrace::interrupt(pid)?;
        loop {
            match wait(pid)? {
                WaitStatus::PtraceEvent(..) => return Ok(arch::get(pid)?),
                WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal)?,
                WaitStatus::PtraceSyscall(_) => ptrace::cont(pid, None)?,
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn become_anew(&self, start: &Start) -> io::Result<()> {
        let done = self.prepare(start).and_then(|prepared| {
            self.take_leave();
            self.call(
                libc::SYS_execve,
                &[prepared.program, prepared.argv, prepared.envp],
            )
        });
        if done.is_err() {
            // It goes on as if nothing had been.
            arch::set(self.pid, self.regs)?;
        }
        kill(self.pid, Signal::SIGCONT)?;
        ptrace::detach(self.pid, None)?;
        done.map(drop)
    }

    /// All that can fail, before anything is lost.
    fn prepare(&self, start: &Start) -> io::Result<Prepared> {
        let programs = start.programs();
        let mut blob = Blob::default();
        let programs: Vec<usize> = programs
            .iter()
            .map(|text| blob.text(text))
            .collect::<io::Result<_>>()?;
        let args: Vec<usize> = start
            .args
            .iter()
            .map(|text| blob.text(text))
            .collect::<io::Result<_>>()?;
        let env: Vec<usize> = start
            .env
            .iter()
            .map(|text| blob.text(text))
            .collect::<io::Result<_>>()?;
        let folder = blob.text(&start.cwd)?;
        let zeros = blob.zeros(64);
        let size = blob.0.len() + 8 * (args.len() + env.len() + 4);
        let at = self.call(libc::SYS_mmap, &[0, size as u64, 3, 0x22, u64::MAX, 0])?;
        let (argv, envp) = (blob.pointers(at, &args), blob.pointers(at, &env));
        self.memory.write_all_at(&blob.0, at)?;
        let here = |offset: usize| at + offset as u64;
        self.call(libc::SYS_chdir, &[here(folder)])?;
        let here_is = |program: &&usize| {
            self.call(libc::SYS_faccessat, &[AT_FDCWD, here(**program), 1])
                .is_ok()
        };
        let program = programs.iter().find(here_is).copied();
        let program =
            program.ok_or_else(|| io::Error::other("its program is not there any more"))?;
        self.default_signals(here(zeros));
        Ok(Prepared {
            program: here(program),
            argv: here(argv),
            envp: here(envp),
        })
    }

    /// Ignored and blocked signals stay so over an `execve`.
    fn default_signals(&self, zeros: u64) {
        let ignored = status(self.pid.as_raw().unsigned_abs(), "SigIgn:").unwrap_or_default();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap_or(0);
        for signal in (0..64).filter(|bit| ignored & (1 << bit) != 0) {
            let _ = self.call(libc::SYS_rt_sigaction, &[signal + 1, zeros, 0, 8]);
        }
        let _ = self.call(libc::SYS_rt_sigprocmask, &[SIG_SETMASK, zeros, 0, 8]);
    }

    /// Children that have ended, and open files, which may be ports that it listens on. Its standard streams stay, as the
    /// runtime gave them: Node.js, for one, marks them to be closed by an `execve`.
    fn take_leave(&self) {
        for stream in 0..=2 {
            let _ = self.call(libc::SYS_fcntl, &[stream, F_SETFD, 0]);
            if let Ok(flags) = self.call(libc::SYS_fcntl, &[stream, F_GETFL, 0]) {
                let _ = self.call(libc::SYS_fcntl, &[stream, F_SETFL, flags & !O_NONBLOCK]);
            }
        }
        for _ in 0..CHILDREN {
            if !self
                .call(libc::SYS_wait4, &[u64::MAX, 0, WNOHANG, 0])
                .is_ok_and(|child| child > 0)
            {
                break;
            }
        }
        if self
            .call(libc::SYS_close_range, &[3, u64::from(u32::MAX), 0])
            .is_err()
        {
            let files = fs::read_dir(format!("/proc/{}/fd", self.pid))
                .into_iter()
                .flatten()
                .flatten();
            let numbers = files.filter_map(|file| file.file_name().to_str()?.parse().ok());
            for number in numbers.filter(|&number: &u64| number > 2) {
                let _ = self.call(libc::SYS_close, &[number]);
            }
        }
    }

    /// Makes it do a system call.
    fn call(&self, number: libc::c_long, arguments: &[u64]) -> io::Result<u64> {
        arch::set(
            self.pid,
            arch::calling(self.regs, self.gate, number as u64, arguments),
        )?;
        // Into the call, and out of it.
        for _ in 0..2 {
            loop {
                ptrace::syscall(self.pid, None)?;
                match wait(self.pid)? {
                    WaitStatus::PtraceSyscall(_) => break,
                    WaitStatus::PtraceEvent(_, _, event) if event == libc::PTRACE_EVENT_EXEC => {
                        return Ok(0);
                    }
                    // Signals and stops that come now are not for the program that is to come.
                    WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => {}
                    _ => return Err(io::ErrorKind::NotFound.into()),
                }
            }
        }
        match arch::result(arch::get(self.pid)?) {
            result if (-4095..0).contains(&result) => {
                Err(io::Error::from_raw_os_error(-result as i32))
            }
            result => Ok(result as u64),
        }
    }
}

struct Prepared {
    program: u64,
    argv: u64,
    envp: u64,
}

const AT_FDCWD: u64 = libc::AT_FDCWD as i64 as u64;
const SIG_SETMASK: u64 = libc::SIG_SETMASK as u64;
const WNOHANG: u64 = libc::WNOHANG as u64;
const F_SETFD: u64 = libc::F_SETFD as u64;
const F_GETFL: u64 = libc::F_GETFL as u64;
const F_SETFL: u64 = libc::F_SETFL as u64;
const O_NONBLOCK: u64 = libc::O_NONBLOCK as u64;

/// Memory of the process that is being put together.
#[derive(Default)]
struct Blob(Vec<u8>);

impl Blob {
    fn text(&mut self, text: &str) -> io::Result<usize> {
        let at = self.0.len();
        self.0
            .extend_from_slice(CString::new(text)?.as_bytes_with_nul());
        Ok(at)
    }

    fn zeros(&mut self, count: usize) -> usize {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = self.0.len();
        self.0.resize(at + count, 0);
        at
    }

    /// An array of pointers to texts in it, with a null at its end.
    fn pointers(&mut self, base: u64, texts: &[usize]) -> usize {
        let at = self.zeros(0);
        texts.iter().for_each(|&text| {
            self.0
                .extend_from_slice(&(base + text as u64).to_ne_bytes())
        });
        self.zeros(8);
        at
    }
}

fn wait(pid: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            waited => return Ok(waited?),
        }
    }
}

/// A system call instruction in the process's vDSO.
fn gate(pid: u32, memory: &File) -> io::Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let range = maps
        .lines()
        .find(|line| line.ends_with("[vdso]"))
        .and_then(|line| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            Some((
                u64::from_str_radix(from, 16).ok()?,
                u64::from_str_radix(to, 16).ok()?,
            ))
        });
    let (from, to) = range.ok_or_else(|| io::Error::other("it has no vDSO"))?;
    let mut code = vec![0; (to - from) as usize];
    memory.read_exact_at(&mut code, from)?;
    let found = code
        .windows(arch::CALL.len())
        .position(|bytes| bytes == arch::CALL);
    found
        .map(|at| from + at as u64)
        .ok_or_else(|| io::Error::other("its vDSO makes no system call"))
}

fn status(pid: u32, field: &str) -> io::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    Ok(line.ok_or(io::ErrorKind::InvalidData)?.to_owned())
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid as i32)
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::{Pid, libc, ptrace};

    pub type Regs = libc::user_regs_struct;
    pub const CALL: &[u8] = &[0x0f, 0x05];

    pub fn get(pid: Pid) -> nix::Result<Regs> {
        ptrace::getregs(pid)
    }

    pub fn set(pid: Pid, regs: Regs) -> nix::Result<()> {
        ptrace::setregs(pid, regs)
    }

    pub fn calling(mut regs: Regs, gate: u64, number: u64, arguments: &[u64]) -> Regs {
        let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
        (regs.rip, regs.rax) = (gate, number);
        // No call that was interrupted is begun again.
        regs.orig_rax = u64::MAX;
        (regs.rdi, regs.rsi, regs.rdx) = (argument(0), argument(1), argument(2));
        (regs.r10, regs.r8, regs.r9) = (argument(3), argument(4), argument(5));
        regs
    }

    pub fn result(regs: Regs) -> i64 {
        regs.rax as i64
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::{Pid, libc, ptrace};

    pub type Regs = libc::user_regs_struct;
    /// `svc #0`
    pub const CALL: &[u8] = &[0x01, 0x00, 0x00, 0xd4];

    pub fn get(pid: Pid) -> nix::Result<Regs> {
        ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(pid)
    }

    pub fn set(pid: Pid, regs: Regs) -> nix::Result<()> {
        ptrace::setregset::<ptrace::regset::NT_PRSTATUS>(pid, regs)
    }

    pub fn calling(mut regs: Regs, gate: u64, number: u64, arguments: &[u64]) -> Regs {
        regs.pc = gate;
        regs.regs[8] = number;
        for at in 0..6 {
            regs.regs[at] = arguments.get(at).copied().unwrap_or(0);
        }
        regs
    }

    pub fn result(regs: Regs) -> i64 {
        regs.regs[0] as i64
    }
}
