"""The embedded PostgreSQL: real servers, real signals, real users."""

import fcntl
import math
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import psutil
import pytest

from embedded_processes import (
    IS_ROOT,
    PROGRAMS,
    ContainersRoot,
    User,
    answers,
    eventually,
    has_new_supervisor,
    is_alive,
    kill,
    ordinary,
    postmaster_pid,
    sql,
    supervisor_pid,
)
from imageapi.embedded_postgres import data_directory, supervisor
from imageapi.embedded_postgres.binaries import Binaries
from imageapi.embedded_postgres.client import DataDirectoryError, run_embedded_server
from imageapi.embedded_postgres.cluster import Cluster, Log
from imageapi.embedded_postgres.data_directory import DataDirectory, Lock
from imageapi.embedded_postgres.privileges import Account, choose_account

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    # Other tests may have left threads in this process, which forks to play other users.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]

needs_root = pytest.mark.skipif(not IS_ROOT, reason="takes other users' parts: needs root")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def short_data_dir() -> Iterator[Path]:
    """A directory whose path leaves room for the name of a socket in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "data")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Callable[..., User]]:
    """Starts users of servers; in the end they go, and their servers with them."""
    users: list[tuple[Path, User]] = []

    def start(data_dir: Path, account: Account | None = None, times: int = 1) -> User:
        users.append((data_dir, User(data_dir, account, times)))
        return users[-1][1]

    yield start
    for _, started in users:
        started.kill()
    for data_dir in {data_dir for data_dir, _ in users}:
        await_stop(data_dir)


def await_stop(data_dir: Path) -> None:
    """Waits until no process holds the directory."""

    def is_free() -> bool:
        lock = Lock.try_acquire(DataDirectory(data_dir))
        if lock:
            os.close(lock.descriptor)
        return lock is not None

    if (data_dir / "postgres.lock").exists():
        eventually(is_free)


def log_of(data_dir: Path) -> str:
    return (data_dir / "postgres.log").read_text()


def has_stopped_cleanly(data_dir: Path) -> bool:
    is_gone = not (data_dir / "postgres" / "postmaster.pid").exists()
    return is_gone and log_of(data_dir).endswith("database system is shut down\n")


def name_other_machine(data_dir: Path) -> Path:
    """Leaves a lock file as another machine does that was switched off."""
    data_dir.mkdir(exist_ok=True)
    lock = data_dir / "postgres.lock"
    lock.write_text("machine: m\nhost: elsewhere\npid: 7\nuser: ann\nsockets: /s\nbeat: 1\n")
    return lock


def refusal(data_dir: Path) -> str:
    with pytest.raises(DataDirectoryError) as refused, run_embedded_server(data_dir):
        pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


# One after the other


def test_data_is_kept_from_one_run_to_the_next(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as url:
        sql(url, "create table t (n int)", "insert into t values (1)")
    with run_embedded_server(data_dir) as url:
        assert sql(url, "select n from t") == "1"


def test_last_one_out_stops_it_cleanly(data_dir: Path) -> None:
    with run_embedded_server(data_dir):
        pids = supervisor_pid(data_dir), postmaster_pid(data_dir)
    assert has_stopped_cleanly(data_dir)
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    assert (data_dir / "postgres.lock").read_text() == ""
    assert list((data_dir / "run").iterdir()) == []


def test_database_is_utf8_with_checksums_and_no_port(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as url:
        names = ("server_encoding", "data_checksums", "listen_addresses")
        assert [sql(url, f"show {name}") for name in names] == ["UTF8", "on", ""]
        query = "select datlocprovider, datlocale from pg_database where datname = 'imageapi'"
        assert sql(url, query) == "b|C.UTF-8"


def test_only_the_owner_may_look_in(data_dir: Path) -> None:
    with run_embedded_server(data_dir):
        for name in (".", "postgres", "run", "run/.s.PGSQL.5432"):
            assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o700, name
        for name in ("postgres.lock", "postgres.log"):
            assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600, name


def test_server_has_a_session_of_its_own_and_no_secret(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEAPI_TOKEN_SECRET", "hush")
    monkeypatch.setenv("PGPORT", "6543")
    with run_embedded_server(data_dir):
        for pid in (supervisor_pid(data_dir), postmaster_pid(data_dir)):
            assert os.getsid(pid) != os.getsid(0)
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"hush" not in environment
            assert b"PGPORT" not in environment


@pytest.mark.parametrize("name", ["l" + "o" * 120 + "ng", "a, b", "100%", "é:@?"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    with run_embedded_server(tmp_path / name) as url:
        assert answers(url)
        elsewhere = Path(re.findall(r"host=([^&]*)", url)[0])
        assert elsewhere.parent == Path("/tmp")
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
    assert not elsewhere.exists()


def test_path_with_spaces(tmp_path: Path) -> None:
    # `tmp_path` itself is long: a short folder shows that a space may stand in the URL.
    folder = DataDirectory(Path("/d/my data"))
    assert folder.get_socket_folder(1) == Path("/d/my data/run")
    with run_embedded_server(tmp_path / "my data") as url:
        assert answers(url)


def test_settings_can_be_nested_in_one_process(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as first:
        with run_embedded_server(data_dir) as second:
            assert first == second
        assert answers(first)
    assert has_stopped_cleanly(data_dir)


# Several at once


def test_second_process_shares_it_and_it_outlives_the_first(
    data_dir: Path, user: Callable[..., User]
) -> None:
    first, second = user(data_dir), user(data_dir)
    url = first.url
    assert second.url == url
    server = postmaster_pid(data_dir)
    assert first.leave() == "left"
    assert answers(url)
    assert postmaster_pid(data_dir) == server
    assert second.leave() == "left"
    assert has_stopped_cleanly(data_dir)


@pytest.mark.parametrize("count", [2, 8])
def test_users_that_start_at_the_same_moment_share_one(
    data_dir: Path, user: Callable[..., User], count: int
) -> None:
    users = [user(data_dir) for _ in range(count)]
    assert len({each.url for each in users}) == 1
    assert log_of(data_dir).count("starting PostgreSQL") == 1
    assert [each.leave() for each in users] == ["left"] * count
    assert has_stopped_cleanly(data_dir)


def test_who_comes_while_it_stops_gets_a_fresh_one(
    data_dir: Path, user: Callable[..., User]
) -> None:
    users = [user(data_dir, times=6) for _ in range(3)]
    for each in users:
        said = each.leave().splitlines()
        assert [line.split()[0] for line in said] == ["ready", "left"] * 6, said
    assert has_stopped_cleanly(data_dir)


# Clients and supervisors of different versions


def test_supervisor_loads_the_standard_library_alone() -> None:
    program = (
        "import sys; before = set(sys.modules); import imageapi.embedded_postgres.supervisor; "
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(loaded - sys.stdlib_module_names), "
        "*sorted(name for name in sys.modules if name.startswith('imageapi.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    top_level, *modules = done.stdout.decode().split()
    assert top_level == "imageapi"
    assert {name.split(".")[1] for name in modules} == {"embedded_postgres"}


def test_older_client_works_with_this_supervisor(short_data_dir: Path) -> None:
    """The lock file's text and the lines on the control socket, as version 0.1.0 reads them."""
    sockets = short_data_dir / "run"
    with run_embedded_server(short_data_dir):
        assert re.fullmatch(
            r"machine: \S+\nhost: \S+\npid: \d+\nuser: \S+\n"
            rf"sockets: {re.escape(str(sockets))}\nbeat: \d{{12}}\n",
            (short_data_dir / "postgres.lock").read_text(),
        )
        with socket.socket(socket.AF_UNIX) as older:
            older.connect(str(sockets / "control"))
            assert older.recv(4096) == b"ready " + os.fsencode(sockets) + b"\n"
            older.shutdown(socket.SHUT_WR)
            assert older.recv(4096) == b""


@contextmanager
def run_older_supervisor(data_dir: Path, line: bytes) -> Iterator[None]:
    """Hold the directory as a supervisor of version 0.1.0 does; answer one client with `line`."""
    folder = data_dir / "run"
    folder.mkdir(parents=True)
    lock = (data_dir / "postgres.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    lock.write(f"machine: {machine}\nhost: h\npid: 7\nuser: ann\nsockets: {folder}\n")
    lock.write("beat: 000000000001\n")
    lock.flush()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(line)
            assert connection.recv(4096) == b""

    with lock, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "control"))
        listener.listen()
        with ThreadPoolExecutor() as threads:
            answering = threads.submit(answer)
            yield
            answering.result()


def test_client_works_with_an_older_supervisor(short_data_dir: Path) -> None:
    line = b"ready " + os.fsencode(short_data_dir / "run") + b"\n"
    with (
        run_older_supervisor(short_data_dir, line),
        run_embedded_server(short_data_dir) as url,
    ):
        folder = quote(str(short_data_dir / "run"))
        assert url == f"postgresql://imageapi@/imageapi?host={folder}&port=5432"


def test_client_raises_what_an_older_supervisor_reports(short_data_dir: Path) -> None:
    with run_older_supervisor(short_data_dir, b"error no luck today\n"):
        assert refusal(short_data_dir) == "no luck today"


# Killed


def test_user_that_is_killed_counts_no_more(data_dir: Path, user: Callable[..., User]) -> None:
    killed = user(data_dir)
    sql(killed.url, "create table t as select 1 as n")
    killed.kill()
    await_stop(data_dir)
    assert has_stopped_cleanly(data_dir)
    with run_embedded_server(data_dir) as url:
        assert sql(url, "select n from t") == "1"


def test_everything_killed_at_once_loses_nothing(data_dir: Path, user: Callable[..., User]) -> None:
    killed = user(data_dir)
    sql(killed.url, "create table t as select 1 as n")
    kill(killed.process.pid, supervisor_pid(data_dir), postmaster_pid(data_dir))
    with run_embedded_server(data_dir) as url:
        assert sql(url, "select n from t") == "1"


def test_server_stops_when_its_supervisor_is_killed_with_its_user(
    data_dir: Path, user: Callable[..., User]
) -> None:
    killed = user(data_dir)
    assert killed.url
    kill(killed.process.pid, supervisor_pid(data_dir))
    await_stop(data_dir)
    assert has_stopped_cleanly(data_dir)


def test_user_survives_its_supervisor(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as url:
        first = supervisor_pid(data_dir)
        kill(first)
        eventually(lambda: answers(url) and has_new_supervisor(data_dir, first))
    assert has_stopped_cleanly(data_dir)


def test_server_that_is_killed_starts_again(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as url:
        sql(url, "create table t as select 1 as n")
        first, supervisor = postmaster_pid(data_dir), supervisor_pid(data_dir)
        kill(first)
        eventually(lambda: not is_alive(first) and answers(url))
        assert sql(url, "select n from t") == "1"
        assert supervisor_pid(data_dir) == supervisor
    assert has_stopped_cleanly(data_dir)


@pytest.mark.parametrize(
    ("children", "status", "is_stuck"),
    [
        (["checkpointer", "io worker 0", "background writer"], "ready", True),
        (["name: checkpointer", "name: io worker 0"], "ready", True),
        (["checkpointer", "walwriter"], "ready", False),
        (["checkpointer", "name: startup recovering 000000010000000000000001"], "ready", False),
        (["checkpointer"], "stopping", False),
        (["io worker 0"], "ready", False),
    ],
)
def test_stuck_server_is_recognised_by_its_children(
    data_dir: Path, children: list[str], status: str, is_stuck: bool
) -> None:
    """Processes that call themselves what PostgreSQL's do."""
    (data_dir / "postgres").mkdir(parents=True)
    lines = [*map(str, range(7)), f"{status:8}"]
    (data_dir / "postgres" / "postmaster.pid").write_text("\n".join(lines))
    sleeping = "".join(f'(exec -a "postgres: {each}" sleep 60) & ' for each in children)
    server = subprocess.Popen(["bash", "-c", f"{sleeping} wait"], start_new_session=True)
    try:
        directory = DataDirectory(data_dir)
        cluster = Cluster(directory, PROGRAMS, -1, Log(directory))
        called = sorted([f"postgres: {each}", "60"] for each in children)
        started = psutil.Process(server.pid).children
        eventually(lambda: sorted(child.cmdline() for child in started()) == called)
        assert cluster.is_stuck(server) == is_stuck
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_server_that_stays_stuck_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has been so for a while: what ends by itself is then started again."""
    monkeypatch.setattr(supervisor, "_STUCK_SECONDS", 0.2)
    stuck = iter([True, False, True])
    ours = object.__new__(supervisor.Supervisor)
    ours._stuck_since = math.inf
    ours._cluster = SimpleNamespace(is_stuck=lambda _: next(stuck, True))
    ours._poll = lambda *_: None
    server = subprocess.Popen(["sleep", "60"])
    for _ in range(3):
        ours._kill_if_stuck(server)
        time.sleep(0.15)
        assert server.poll() is None
    ours._kill_if_stuck(server)
    time.sleep(0.15)
    ours._kill_if_stuck(server)
    assert server.returncode == -signal.SIGKILL


def test_supervisor_stays_until_its_users_leave(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as url:
        supervisor = supervisor_pid(data_dir)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(supervisor, number)
            assert answers(url)
        assert is_alive(supervisor)
    assert has_stopped_cleanly(data_dir)


def test_initdb_killed_in_the_middle_leaves_nothing_half_made(
    data_dir: Path, user: Callable[..., User]
) -> None:
    waiting = user(data_dir)
    eventually((data_dir / "postgres.new" / "base").exists)
    kill(supervisor_pid(data_dir))
    assert answers(waiting.url)
    assert not (data_dir / "postgres.new").exists()


def test_leftovers_of_a_killed_initdb_are_removed(data_dir: Path) -> None:
    (data_dir / "postgres.new" / "base").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    with run_embedded_server(data_dir) as url:
        assert answers(url)
    assert not (data_dir / "postgres.new").exists()


# Numbers that mean somebody else now, and servers that are not ours


def server_account(data_dir: Path) -> Account | None:
    return choose_account(DataDirectory(data_dir), [PROGRAMS.postgres])


def as_server(data_dir: Path, *command: str | Path) -> "subprocess.Popen[bytes]":
    """Starts a program as the user that the server runs as."""
    account = server_account(data_dir)
    enter = account.become if account else None
    return subprocess.Popen(command, preexec_fn=enter, stderr=subprocess.DEVNULL)  # noqa: PLW1509


def test_stale_pid_file_is_harmless(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as url:
        sql(url, "create table t as select 1 as n")
        pid_file = (data_dir / "postgres" / "postmaster.pid").read_text()
    innocent = as_server(data_dir, "sleep", "600")
    try:
        stale = data_dir / "postgres" / "postmaster.pid"
        stale.write_text(re.sub(r"^\d+", str(innocent.pid), pid_file))
        (data_dir / "run" / ".s.PGSQL.5432.lock").write_text(f"{innocent.pid}\n")
        for path in (stale, data_dir / "run" / ".s.PGSQL.5432.lock"):
            shutil.chown(path, stale.parent.stat().st_uid, stale.parent.stat().st_gid)
        with run_embedded_server(data_dir) as url:
            assert sql(url, "select n from t") == "1"
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_stale_socket_lock_without_a_pid_file_is_harmless(data_dir: Path) -> None:
    with run_embedded_server(data_dir):
        pass
    innocent = as_server(data_dir, "sleep", "600")
    try:
        (data_dir / "run" / ".s.PGSQL.5432.lock").write_text(f"{innocent.pid}\n")
        with run_embedded_server(data_dir) as url:
            assert answers(url)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_server_of_the_operators_own_is_left_alone(data_dir: Path) -> None:
    with run_embedded_server(data_dir) as url:
        pass
    cluster, run = data_dir / "postgres", data_dir / "run"
    options = ["-c", "listen_addresses=", "-k", str(run)]
    theirs = as_server(data_dir, PROGRAMS.postgres, "-D", cluster, *options)
    try:
        eventually(lambda: answers(url))
        assert "another PostgreSQL server, not started by Image API" in refusal(data_dir)
        assert answers(url)
        assert postmaster_pid(data_dir) == theirs.pid
    finally:
        theirs.send_signal(signal.SIGINT)
        theirs.wait()


# Refused, in one plain line


def test_file_in_place_of_the_directory(data_dir: Path) -> None:
    data_dir.write_text("")
    assert refusal(data_dir) == f"{data_dir} is not a directory"
    assert refusal(data_dir / "below") == f"{data_dir / 'below'} is not a directory"


def test_data_of_another_version(data_dir: Path) -> None:
    with run_embedded_server(data_dir):
        pass
    for version in ("9.6", "16", "99"):
        (data_dir / "postgres" / "PG_VERSION").write_text(f"{version}\n")
        said = refusal(data_dir)
        assert f"made by PostgreSQL {version} and the installed one is {PROGRAMS.major}" in said


def test_something_else_in_the_servers_place(data_dir: Path) -> None:
    (data_dir / "postgres" / "else").mkdir(parents=True)
    assert "is no data directory of PostgreSQL's" in refusal(data_dir)
    assert (data_dir / "postgres" / "else").exists()


def test_configuration_that_postgresql_refuses_is_quoted(data_dir: Path) -> None:
    with run_embedded_server(data_dir):
        pass
    (data_dir / "postgres" / "pg_hba.conf").unlink()
    assert "PostgreSQL does not start" in refusal(data_dir)
    assert "pg_hba.conf" in refusal(data_dir)


def test_without_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DataDirectoryError, match="no PostgreSQL programs are installed"):
        Binaries.locate()


def test_programs_on_path_serve_where_there_is_no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(PROGRAMS.postgres.parent))
    assert Binaries.locate() == PROGRAMS


def test_folder_of_sockets_that_is_a_link_is_refused(tmp_path: Path, data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "run").symlink_to(tmp_path)
    assert "is not a folder of user" in refusal(data_dir)


def test_directory_that_another_machine_uses(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_directory, "HEARTBEAT_SECONDS", 0.8)
    lock = name_other_machine(data_dir)
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.05):
            os.utime(lock)

    other = threading.Thread(target=beat)
    other.start()
    try:
        assert "in use by another machine: process 7 of user ann on elsewhere" in refusal(data_dir)
    finally:
        done.set()
        other.join()
    assert "elsewhere" in lock.read_text()


def test_directory_that_another_machine_has_locked(data_dir: Path) -> None:
    path = name_other_machine(data_dir)
    lock = Lock.try_acquire(DataDirectory(data_dir))
    assert lock is not None
    timer = threading.Timer(0.3, os.utime, [path])
    timer.start()
    assert "in use by another machine: process 7 of user ann" in refusal(data_dir)
    timer.join()
    os.close(lock.descriptor)


def test_machine_that_is_gone_is_succeeded(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_directory, "HEARTBEAT_SECONDS", 0.2)
    name_other_machine(data_dir)
    with run_embedded_server(data_dir) as url:
        assert answers(url)
        first = (data_dir / "postgres.lock").read_text()
        assert "elsewhere" not in first
        eventually(lambda: (data_dir / "postgres.lock").read_text() != first)


def test_holder_that_never_answers(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imageapi.embedded_postgres.client._SUPERVISOR_TIMEOUT_SECONDS", 0.1)
    data_dir.mkdir()
    lock = Lock.try_acquire(DataDirectory(data_dir))
    assert lock is not None
    lock.write_holder(data_dir / "run")
    assert f"in use by process {os.getpid()} of user" in refusal(data_dir)
    lock.release()


@pytest.mark.skipif(IS_ROOT, reason="root writes anywhere; the tests below take a user's part")
def test_directory_that_cannot_be_written(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o500)
    assert "cannot be written by user" in refusal(data_dir)
    assert "cannot be created" in refusal(data_dir / "below")


# As root, and as others


def owned_by(path: Path, account: Account) -> Path:
    path.mkdir(mode=0o700, parents=True)
    os.chown(path, account.uid, account.gid)
    return path


def owners(data_dir: Path) -> set[int]:
    return {path.lstat().st_uid for path in [data_dir, *data_dir.rglob("*")]}


@needs_root
def test_ordinary_user_starts_and_stops_it(data_dir: Path, user: Callable[..., User]) -> None:
    ann = ordinary(0)
    owned_by(data_dir, ann)
    first = user(data_dir, ann)
    sql(first.url, "create table t as select 1 as n")
    assert owners(data_dir) == {ann.uid}
    assert first.leave() == "left"
    assert has_stopped_cleanly(data_dir)
    second = user(data_dir, ann)
    assert sql(second.url, "select n from t") == "1"
    killed = supervisor_pid(data_dir)
    kill(killed)
    eventually(lambda: has_new_supervisor(data_dir, killed))
    assert second.leave() == "left"


@needs_root
def test_root_under_a_folder_of_roots_alone(tmp_path: Path, user: Callable[..., User]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with run_embedded_server(closed / "data") as url:
        server = Path(f"/proc/{postmaster_pid(closed / 'data')}/status").read_text()
        nobody = pwd.getpwnam("nobody").pw_uid
        assert re.search(rf"^Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}$", server, re.MULTILINE)
        capabilities = re.findall(r"^Cap(?:Prm|Eff|Amb):\t(\w+)$", server, re.MULTILINE)
        assert len(set(capabilities)) == 1
        assert int(capabilities[0], 16) in {1 << 1, 1 << 2}
        assert answers(url)
        before = postmaster_pid(closed / "data")
        kill(before)
        eventually(lambda: not is_alive(before) and answers(url))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == 0


@pytest.fixture
def closed_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of root's alone that PostgreSQL's programs are in."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = PROGRAMS.postgres.parents[2]
    for folder in (package, package.with_name(package.name + ".libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.name)
    monkeypatch.setenv("PYTHONPATH", f"{closed}:{os.environ.get('PYTHONPATH', '')}")
    return closed


@needs_root
@pytest.mark.parametrize("account", [None, ContainersRoot()], ids=["root", "a container's root"])
def test_root_whose_programs_are_roots_alone(
    closed_programs: Path, user: Callable[..., User], account: ContainersRoot | None
) -> None:
    data_dir = closed_programs / "data"
    started = user(data_dir, account)
    assert answers(started.url)
    program = Path(f"/proc/{postmaster_pid(data_dir)}/exe").readlink()
    assert program.is_relative_to(closed_programs)
    assert started.leave() == "left"
    assert has_stopped_cleanly(data_dir)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, as `tmp_path` is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_root
def test_no_capability_is_kept_where_none_is_needed(open_folder: Path) -> None:
    ann = ordinary(0)
    data_dir = owned_by(open_folder / "data", ann)
    found = choose_account(DataDirectory(data_dir), [PROGRAMS.postgres])
    if found is None or found.capability is not None:
        pytest.skip("the programs are in a folder of root's alone")
    with run_embedded_server(data_dir):
        for pid in (supervisor_pid(data_dir), postmaster_pid(data_dir)):
            status = Path(f"/proc/{pid}/status").read_text()
            assert len(re.findall(r"^Cap(?:Prm|Eff|Amb):\t0+$", status, re.MULTILINE)) == 3
            assert f"Uid:\t{ann.uid}\t" in status
    assert has_stopped_cleanly(data_dir)


@needs_root
def test_user_without_a_name(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, 54321, 54321)
    assert "number 54321 has none here" in refusal(data_dir)


@needs_root
def test_users_directory_stays_the_users_after_root_used_it(
    data_dir: Path, user: Callable[..., User]
) -> None:
    ann = ordinary(0)
    owned_by(data_dir, ann)
    with run_embedded_server(data_dir) as url:  # as root
        sql(url, "create table t as select 1 as n")
        assert owners(data_dir) == {ann.uid}
        beside = user(data_dir, ann)
        assert beside.url == url
        assert beside.leave() == "left"
    assert owners(data_dir) == {ann.uid}
    later = user(data_dir, ann)
    assert sql(later.url, "select n from t") == "1"


@needs_root
def test_directory_of_another_user(data_dir: Path, user: Callable[..., User]) -> None:
    ann, ben = ordinary(0), ordinary(1)
    owned_by(data_dir, ann)
    anns = user(data_dir, ann)
    assert anns.url
    name = pwd.getpwuid(ann.uid).pw_name
    assert user(data_dir, ben).refusal == f"{data_dir} belongs to user {name}"
    data_dir.chmod(0o777)
    assert user(data_dir, ben).refusal == f"{data_dir} belongs to user {name}"


@needs_root
def test_directory_that_a_user_cannot_write(data_dir: Path, user: Callable[..., User]) -> None:
    ann = ordinary(0)
    data_dir.mkdir(mode=0o755)
    name = pwd.getpwuid(ann.uid).pw_name
    assert user(data_dir, ann).refusal == f"{data_dir} cannot be written by user {name}"
    reason = user(data_dir / "below", ann).refusal
    assert reason == f"{data_dir / 'below'} cannot be created: Permission denied"


@needs_root
def test_link_that_a_user_left_for_root_is_not_followed(tmp_path: Path, data_dir: Path) -> None:
    ann, precious = ordinary(0), tmp_path / "precious"
    owned_by(data_dir, ann)
    precious.write_text("kept")
    for name in ("postgres.lock", "postgres.log", "postgres.new"):
        (data_dir / name).symlink_to(precious)
        assert refusal(data_dir)
        (data_dir / name).unlink()
    assert precious.read_text() == "kept"
    assert precious.stat().st_uid == 0


@needs_root
def test_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], check=False)
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        assert "No space left on device" in refusal(small)
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
