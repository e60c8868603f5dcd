"""What an orchestration must not use, by name, and what to use instead.

Only names are here; nothing is imported. Functions count wherever they are mentioned, classes where they are called.
"""

from __future__ import annotations

from dataclasses import dataclass

ACTIVITY = "an activity"
NOW = "keyleaf.now()"
RANDOM = "keyleaf.random()"
UUID = "keyleaf.uuid()"
SLEEP = "await keyleaf.sleep(...)"
GATHER = "await keyleaf.gather(...)"
FIRST = "await keyleaf.first(...)"
EVENT = "await keyleaf.wait_for_event(...)"
INPUT = "an argument of the orchestration, or an activity"
SECRET = "an activity with secrets={...}"  # noqa: S105 (advice, not a password)
SORTED = "sorted(...)"
LOCAL = "a local variable"

_NAMES: tuple[tuple[str, str, str], ...] = (
    # module, instead, names ("*": every function)
    (
        "time",
        NOW,
        "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time"
        " thread_time_ns clock_gettime clock_gettime_ns localtime ctime gmtime asctime strftime",
    ),
    ("time", SLEEP, "sleep"),
    ("arrow", NOW, "now utcnow"),
    ("pendulum", NOW, "now today tomorrow yesterday"),
    ("django.utils.timezone", NOW, "now localdate localtime"),
    ("random", RANDOM, "* Random SystemRandom"),
    ("numpy.random", RANDOM, "* default_rng"),
    ("secrets", ACTIVITY, "* SystemRandom"),
    ("uuid", UUID, "uuid1 uuid4 uuid6 uuid7 uuid8"),
    ("uuid", ACTIVITY, "getnode"),
    ("os", INPUT, "environ environb getenv getenvb"),
    ("os", RANDOM, "urandom getrandom"),
    ("os", ACTIVITY, "*"),
    (
        "os.path",
        ACTIVITY,
        "exists lexists isfile isdir islink ismount isjunction getsize getmtime getatime getctime samefile realpath"
        " abspath expanduser expandvars",
    ),
    ("sys", INPUT, "argv stdin"),
    ("builtins", ACTIVITY, "open input"),
    ("builtins", "a field that identifies it", "id"),
    ("builtins", "hashlib", "hash"),
    ("io", ACTIVITY, "open open_code"),
    ("codecs", ACTIVITY, "open"),
    ("gzip", ACTIVITY, "open"),
    ("bz2", ACTIVITY, "open"),
    ("lzma", ACTIVITY, "open"),
    ("tarfile", ACTIVITY, "open"),
    ("shutil", ACTIVITY, "*"),
    ("tempfile", ACTIVITY, "* TemporaryDirectory SpooledTemporaryFile"),
    ("glob", ACTIVITY, "glob iglob"),
    ("fileinput", ACTIVITY, "*"),
    ("platform", ACTIVITY, "*"),
    ("getpass", ACTIVITY, "*"),
    ("webbrowser", ACTIVITY, "*"),
    ("socket", ACTIVITY, "* socket"),
    ("select", ACTIVITY, "* poll epoll kqueue"),
    ("selectors", ACTIVITY, "DefaultSelector SelectSelector PollSelector EpollSelector KqueueSelector"),
    ("subprocess", ACTIVITY, "* Popen"),
    ("urllib.request", ACTIVITY, "urlopen urlretrieve build_opener OpenerDirector"),
    ("http.client", ACTIVITY, "HTTPConnection HTTPSConnection"),
    ("smtplib", ACTIVITY, "SMTP SMTP_SSL LMTP"),
    ("ftplib", ACTIVITY, "FTP FTP_TLS"),
    ("requests", ACTIVITY, "get post put patch delete head options request session Session"),
    ("httpx", ACTIVITY, "get post put patch delete head options request stream Client AsyncClient"),
    ("httpx2", ACTIVITY, "get post put patch delete head options request stream Client AsyncClient"),
    ("aiohttp", ACTIVITY, "request ClientSession TCPConnector"),
    ("urllib3", ACTIVITY, "request PoolManager ProxyManager HTTPConnectionPool HTTPSConnectionPool"),
    ("websockets", ACTIVITY, "connect serve"),
    ("grpc", ACTIVITY, "insecure_channel secure_channel"),
    ("sqlite3", ACTIVITY, "connect Connection"),
    ("psycopg", ACTIVITY, "connect Connection AsyncConnection"),
    ("psycopg2", ACTIVITY, "connect"),
    ("psycopg_pool", ACTIVITY, "ConnectionPool AsyncConnectionPool"),
    ("asyncpg", ACTIVITY, "connect create_pool"),
    ("aiosqlite", ACTIVITY, "connect"),
    (
        "sqlalchemy",
        ACTIVITY,
        "create_engine create_async_engine engine_from_config async_engine_from_config Engine AsyncEngine Session"
        " AsyncSession",
    ),
    ("redis", ACTIVITY, "Redis StrictRedis from_url"),
    ("pymongo", ACTIVITY, "MongoClient AsyncMongoClient"),
    ("boto3", ACTIVITY, "client resource Session"),
    (
        "threading",
        ACTIVITY,
        "* Thread Timer Lock RLock lock Event Condition Semaphore BoundedSemaphore Barrier local allocate_lock",
    ),
    (
        "multiprocessing",
        ACTIVITY,
        "* Process Pool Queue SimpleQueue JoinableQueue Pipe Manager Lock RLock Event Condition Semaphore Value Array"
        " DefaultContext",
    ),
    (
        "concurrent.futures",
        ACTIVITY,
        "wait as_completed ThreadPoolExecutor ProcessPoolExecutor InterpreterPoolExecutor",
    ),
    ("asyncio", SLEEP, "sleep"),
    ("asyncio", GATHER, "gather create_task ensure_future TaskGroup Task"),
    ("asyncio", FIRST, "wait wait_for as_completed timeout timeout_at Timeout"),
    ("asyncio", EVENT, "Event Condition Future Queue PriorityQueue LifoQueue"),
    ("asyncio", ACTIVITY, "* Lock Semaphore BoundedSemaphore Barrier Runner"),
    ("anyio", SLEEP, "sleep sleep_until"),
    ("anyio", GATHER, "create_task_group"),
    ("anyio", FIRST, "fail_after move_on_after"),
    ("anyio", ACTIVITY, "run run_process open_file Path connect_tcp"),
    ("trio", SLEEP, "sleep sleep_until"),
    ("trio", GATHER, "open_nursery"),
    ("trio", FIRST, "fail_after move_on_after"),
    ("trio", ACTIVITY, "run run_process open_file Path open_tcp_stream"),
    ("azure.identity", SECRET, "*"),
    ("azure.keyvault", SECRET, "*"),
    ("keyleaf.core.secret", SECRET, "reveal"),
    ("keyleaf.client", SECRET, "SecretReader AzureVaultConnection"),
    ("keyleaf.orchestrate.worker", ACTIVITY, "Worker"),
)

_FINE: dict[str, frozenset[str]] = {
    "os": frozenset({"fspath", "fsencode", "fsdecode", "strerror", "waitstatus_to_exitcode", "PathLike"}),
    "secrets": frozenset({"compare_digest"}),
    "numpy.random": frozenset({"SeedSequence"}),
    "socket": frozenset({"htonl", "htons", "ntohl", "ntohs", "inet_aton", "inet_ntoa", "inet_ntop", "inet_pton"}),
    "subprocess": frozenset({"list2cmdline"}),
    "asyncio": frozenset({"iscoroutine", "iscoroutinefunction", "isfuture"}),
    "shutil": frozenset({"get_archive_formats", "get_unpack_formats"}),
    "platform": frozenset({"python_version_tuple", "python_version", "python_implementation"}),
}
"""What "*" leaves out."""

_AT_MOST: dict[str, int] = {
    "random.Random": 0,
    "numpy.random.default_rng": 0,
    "time.gmtime": 0,
    "time.asctime": 0,
    "time.strftime": 1,
}
"""Deterministic when called with more arguments than this."""

_MODULES: dict[str, str] = {
    "posix": "os",
    "nt": "os",
    "posixpath": "os.path",
    "ntpath": "os.path",
    "genericpath": "os.path",
    "_io": "io",
    "_socket": "socket",
    "_ssl": "ssl",
    "_thread": "threading",
    "_asyncio": "asyncio",
    "_sqlite3": "sqlite3",
    "_random": "random",
    "_queue": "queue",
}
"""Modules that a function says it is from, and the one that authors import it from."""

_PATH_METHODS = (
    "cwd home stat lstat exists is_file is_dir is_mount is_symlink is_socket is_fifo is_block_device is_char_device"
    " is_junction iterdir glob rglob walk open read_text read_bytes write_text write_bytes mkdir rmdir unlink rename"
    " replace touch chmod lchmod owner group readlink resolve expanduser samefile symlink_to hardlink_to copy copy_into"
    " move move_into"
)

METHODS: dict[str, dict[str, str]] = {
    "datetime.datetime": dict.fromkeys(("now", "utcnow", "today"), NOW),
    "datetime.date": {"today": NOW},
    "pathlib.Path": dict.fromkeys(_PATH_METHODS.split(), ACTIVITY),
    "keyleaf.core.secret.Secret": {"reveal": SECRET},
}
"""Methods, by class; they count for subclasses too."""


@dataclass(frozen=True)
class ImpureName:
    """A name that must not be used.

    Attributes:
        name: as authors write it, ``asyncio.sleep``.
        instead: what to use.
        called: whether it counts only where it is called; otherwise wherever it is mentioned.
        at_most: None, or the number of arguments above which a call of it is deterministic.
    """

    name: str
    instead: str
    called: bool = False
    at_most: int | None = None


def _table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for module, instead, names in _NAMES:
        for name in names.split():
            table.setdefault(module, {}).setdefault(name, instead)
    return table


_TABLE = _table()


def impure_name(dotted: str, *, is_class: bool | None = None) -> ImpureName | None:
    """What the table says of a module's name, None if it is fine.

    Args:
        dotted: full name of a function or class, by the module it is imported from or the one it is defined in.
        is_class: whether it is a class (or a constant), not a function; None if nobody knows, then its spelling tells.
    """
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        module = _MODULES.get(module, module)
        if module in _TABLE:
            return _in_module(module, parts[length:], is_class)
    if parts[0] == "azure" and parts[-1].endswith(("Client", "Credential")) and len(parts) > 2:
        return ImpureName(dotted, ACTIVITY, called=True)
    return None


def _in_module(module: str, parts: list[str], is_class: bool | None) -> ImpureName | None:
    names = _TABLE[module]
    name = next((part for part in parts if part in names), "")
    if name:
        full = f"{module}.{name}"
        shown = name if module == "builtins" or full == "io.open" else full
        at_most = _AT_MOST.get(full)
        a_class = is_class if is_class is not None else name[:1].isupper()
        return ImpureName(shown, names[name], a_class or at_most is not None, at_most)
    last = parts[-1]
    if "*" not in names or last.startswith("__") or last in _FINE.get(module, frozenset()):
        return None
    a_function = not is_class if is_class is not None else last[:1].islower()
    if a_function or module.startswith("azure."):
        return ImpureName(f"{module}.{last}", names["*"], not a_function)
    return None
