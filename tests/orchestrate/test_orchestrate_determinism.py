"""What an orchestration must not do is found in its code, and refused where it runs.

In the snippets, what has to be found in a line stands at its end: ``#! what -> instead``, several by ``;``. Lines
without such a mark must not be reported.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import re
import types
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.core.errors import InputError
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.determinism import NondeterminismError, impurities, require_deterministic
from keyleaf.orchestrate.words import activity, orchestration

IMPURE = {
    "time.time": "import time\nasync def flow():\n    return time.time()  #! time.time() -> keyleaf.now()",
    "time.time not called": "import time\nasync def flow():\n    f = time.time  #! time.time -> keyleaf.now()",
    "from time import time": "from time import time\nasync def flow():\n    time()  #! time.time() -> keyleaf.now()",
    "renamed function": """
        from time import monotonic as m
        async def flow():
            m()  #! time.monotonic() -> keyleaf.now()
    """,
    "renamed module": """
        import time as t
        async def flow():
            t.perf_counter()  #! time.perf_counter() -> keyleaf.now()
    """,
    "time.sleep": "import time\nasync def flow():\n    time.sleep(1)  #! time.sleep() -> await keyleaf.sleep(...)",
    "time.localtime": "import time\nasync def flow():\n    time.localtime()  #! time.localtime() -> keyleaf.now()",
    "time.gmtime without time": "import time\nasync def flow():\n    time.gmtime()  #! time.gmtime() -> keyleaf.now()",
    "time.strftime of now": """
        import time
        async def flow():
            time.strftime("%Y")  #! time.strftime() -> keyleaf.now()
    """,
    "local import": """
        async def flow():
            import time
            return time.time_ns()  #! time.time_ns() -> keyleaf.now()
    """,
    "local from import": """
        async def flow():
            from time import process_time as spent
            return spent()  #! time.process_time() -> keyleaf.now()
    """,
    "datetime.now": """
        from datetime import UTC, datetime
        async def flow():
            return datetime.now(UTC)  #! datetime.now() -> keyleaf.now()
    """,
    "datetime.datetime.utcnow": """
        import datetime
        async def flow():
            return datetime.datetime.utcnow()  #! datetime.utcnow() -> keyleaf.now()
    """,
    "datetime.today renamed": """
        from datetime import datetime as dt
        async def flow():
            return dt.today()  #! datetime.today() -> keyleaf.now()
    """,
    "date.today": """
        from datetime import date
        async def flow():
            return date.today()  #! date.today() -> keyleaf.now()
    """,
    "bound method of a class": """
        from datetime import datetime
        clock = datetime.now
        async def flow():
            return clock()  #! datetime.now() -> keyleaf.now()
    """,
    "subclass of datetime": """
        from datetime import datetime
        class Stamp(datetime):
            pass
        async def flow():
            return Stamp.now()  #! datetime.now() -> keyleaf.now()
    """,
    "random.random": "import random\nasync def flow():\n    random.random()  #! random.random() -> keyleaf.random()",
    "from random import choice": """
        from random import choice
        async def flow():
            return choice([1, 2])  #! random.choice() -> keyleaf.random()
    """,
    "generator without seed": """
        import random
        async def flow():
            return random.Random()  #! random.Random() -> keyleaf.random()
    """,
    "generator seeded with nothing": """
        from random import Random
        async def flow():
            return Random(None)  #! random.Random() -> keyleaf.random()
    """,
    "generator of the module": """
        import random
        DICE = random.Random(6)
        async def flow():
            return DICE.randint(1, 6)  #! random.randint() -> keyleaf.random()
    """,
    "system random": """
        import random
        async def flow():
            return random.SystemRandom().random()  #! random.SystemRandom() -> keyleaf.random()
    """,
    "secrets": "import secrets\nasync def flow():\n    secrets.token_hex()  #! secrets.token_hex() -> an activity",
    "uuid4": "import uuid\nasync def flow():\n    uuid.uuid4()  #! uuid.uuid4() -> keyleaf.uuid()",
    "from uuid import uuid1": """
        from uuid import uuid1
        async def flow():
            uuid1()  #! uuid.uuid1() -> keyleaf.uuid()
    """,
    "os.urandom": "import os\nasync def flow():\n    os.urandom(8)  #! os.urandom() -> keyleaf.random()",
    "os.getenv": "import os\nasync def flow():\n    os.getenv('A')  #! os.getenv() -> an argument",
    "os.environ": "import os\nasync def flow():\n    os.environ['A']  #! os.environ -> an argument",
    "os.environ.get": "import os\nasync def flow():\n    os.environ.get('A')  #! os.environ -> an argument",
    "from os import environ": """
        from os import environ as e
        async def flow():
            e['A']  #! os.environ -> an argument
    """,
    "os.getpid": "from os import getpid\nasync def flow():\n    getpid()  #! os.getpid() -> an activity",
    "os.listdir": "import os\nasync def flow():\n    os.listdir()  #! os.listdir() -> an activity",
    "os.path.exists": "import os\nasync def flow():\n    os.path.exists('a')  #! os.path.exists() -> an activity",
    "sys.argv": "import sys\nasync def flow():\n    sys.argv[1]  #! sys.argv -> an argument",
    "open": """
        async def flow():
            with open("a") as file:  #! open() -> an activity
                return file.read()
    """,
    "io.open": "import io\nasync def flow():\n    io.open('a')  #! open() -> an activity",
    "input": "async def flow():\n    input()  #! input() -> an activity",
    "Path.read_text": """
        from pathlib import Path
        async def flow():
            return Path("a").read_text()  #! Path.read_text() -> an activity
    """,
    "path in a local": """
        from pathlib import Path
        async def flow():
            place = Path("a") / "b"
            place.parent.mkdir()  #! Path.mkdir() -> an activity
            place.with_suffix(".c").unlink()  #! Path.unlink() -> an activity
    """,
    "path of the module": """
        import pathlib
        PLACE = pathlib.Path("a")
        async def flow():
            return PLACE.exists()  #! Path.exists() -> an activity
    """,
    "path as parameter": """
        from pathlib import Path
        async def flow(place: Path | None):
            return place.open()  #! Path.open() -> an activity
    """,
    "Path.cwd": "from pathlib import Path\nasync def flow():\n    Path.cwd()  #! Path.cwd() -> an activity",
    "shutil": "import shutil\nasync def flow():\n    shutil.rmtree('a')  #! shutil.rmtree() -> an activity",
    "tempfile": "import tempfile\nasync def flow():\n    tempfile.mkdtemp()  #! tempfile.mkdtemp() -> an activity",
    "socket": "import socket\nasync def flow():\n    socket.socket()  #! socket.socket() -> an activity",
    "gethostname": """
        from socket import gethostname as h
        async def flow():
            h()  #! socket.gethostname() -> an activity
    """,
    "subprocess": "import subprocess\nasync def flow():\n    subprocess.run([])  #! subprocess.run() -> an activity",
    "urlopen": """
        from urllib.request import urlopen
        async def flow():
            return urlopen("a")  #! urllib.request.urlopen() -> an activity
    """,
    "requests, not imported": """
        async def flow():
            import requests
            return requests.get("a")  #! requests.get() -> an activity
    """,
    "httpx, not imported": """
        async def flow():
            from httpx import AsyncClient
            async with AsyncClient() as client:  #! httpx.AsyncClient() -> an activity
                return await client.get("a")
    """,
    "httpx2": """
        import httpx2
        async def flow():
            return httpx2.get("a")  #! httpx2.get() -> an activity
    """,
    "client of the module": """
        import httpx2
        CLIENT = httpx2.AsyncClient()
        async def flow():
            return await CLIENT.get("a")  #! httpx2.AsyncClient.get() -> an activity
    """,
    "aiohttp": """
        async def flow():
            import aiohttp
            async with aiohttp.ClientSession() as session:  #! aiohttp.ClientSession() -> an activity
                pass
    """,
    "sqlite3": "import sqlite3\nasync def flow():\n    sqlite3.connect('a')  #! sqlite3.connect() -> an activity",
    "psycopg": "import psycopg\nasync def flow():\n    psycopg.connect('a')  #! psycopg.connect() -> an activity",
    "sqlalchemy": """
        from sqlalchemy.ext.asyncio import create_async_engine
        async def flow():
            create_async_engine("a")  #! sqlalchemy.create_async_engine() -> an activity
    """,
    "thread": """
        import threading
        async def flow():
            threading.Thread().start()  #! threading.Thread() -> an activity
    """,
    "subclass of a thread": """
        from threading import Thread
        class Job(Thread):
            pass
        async def flow():
            Job()  #! threading.Thread() -> an activity
    """,
    "pool": """
        from concurrent.futures import ThreadPoolExecutor
        async def flow():
            ThreadPoolExecutor(1)  #! concurrent.futures.ThreadPoolExecutor() -> an activity
    """,
    "multiprocessing": """
        import multiprocessing
        async def flow():
            multiprocessing.Pool()  #! multiprocessing.Pool() -> an activity
    """,
    "asyncio.sleep": """
        import asyncio
        async def flow():
            await asyncio.sleep(1)  #! asyncio.sleep() -> await keyleaf.sleep(...)
    """,
    "asyncio.gather": """
        from asyncio import gather as all_of
        async def flow():
            await all_of()  #! asyncio.gather() -> await keyleaf.gather(...)
    """,
    "asyncio.wait": """
        import asyncio
        async def flow():
            await asyncio.wait([])  #! asyncio.wait() -> await keyleaf.first
    """,
    "asyncio.wait_for": """
        import asyncio
        async def flow(step):
            await asyncio.wait_for(step, 1)  #! asyncio.wait_for() -> await keyleaf.first(...)
    """,
    "asyncio.create_task": """
        import asyncio
        async def flow(step):
            asyncio.create_task(step)  #! asyncio.create_task() -> await keyleaf.gather(...)
    """,
    "asyncio.TaskGroup": """
        import asyncio
        async def flow():
            async with asyncio.TaskGroup():  #! asyncio.TaskGroup() -> await keyleaf.gather(...)
                pass
    """,
    "asyncio.to_thread": """
        import asyncio
        async def flow():
            await asyncio.to_thread(print)  #! asyncio.to_thread() -> an activity
    """,
    "asyncio.timeout": """
        import asyncio
        async def flow():
            async with asyncio.timeout(1):  #! asyncio.timeout() -> await keyleaf.first(...)
                pass
    """,
    "azure.identity": """
        from azure.identity import DefaultAzureCredential
        async def flow():
            DefaultAzureCredential()  #! azure.identity.DefaultAzureCredential() -> an activity with secrets
    """,
    "azure.keyvault, not imported": """
        async def flow():
            from azure.keyvault.certificates import CertificateClient
            CertificateClient()  #! azure.keyvault.CertificateClient() -> an activity with secrets
    """,
    "secret of the module": """
        from keyleaf.core.secret import Secret
        KEY = Secret("x")
        async def flow():
            return KEY.reveal()  #! Secret.reveal() -> an activity with secrets={...}
    """,
    "secret as parameter": """
        from keyleaf import Secret
        def tail(key: Secret):
            return key.reveal()[-1]  #! Secret.reveal() -> an activity with secrets={...}
        async def flow(key):
            return tail(key)
    """,
    "reader": """
        from keyleaf.client import SecretReader
        async def flow():
            SecretReader()  #! keyleaf.client.SecretReader() -> an activity with secrets={...}
    """,
    "for over a set": """
        async def flow(names):
            for name in {"a", "b"}:  #! iteration over a set -> sorted(...)
                pass
    """,
    "comprehension over set()": """
        async def flow(names):
            return [name for name in set(names)]  #! iteration over a set -> sorted(...)
    """,
    "list of a frozenset": """
        async def flow(names):
            return list(frozenset(names))  #! iteration over a set -> sorted(...)
    """,
    "difference of sets in a local": """
        async def flow(names, done):
            left = set(names) - set(done)
            for name in left:  #! iteration over a set -> sorted(...)
                pass
            return ",".join(left.union(done))  #! iteration over a set -> sorted(...)
    """,
    "parameter that is a set": """
        async def flow(tags: set[str]):
            first, *others = tags  #! iteration over a set -> sorted(...)
            print(*tags)  #! iteration over a set -> sorted(...)
            return tags.pop()  #! taking any element of a set -> sorted(...)
    """,
    "set of the module": """
        NAMES = frozenset({"a", "b"})
        class Shop:
            names = {"a", "b"}
        async def flow(done):
            for name in NAMES:  #! iteration over a set -> sorted(...)
                pass
            list(NAMES - done)  #! iteration over a set -> sorted(...)
            return [n for n in Shop.names]  #! iteration over a set -> sorted(...)
    """,
    "id": "async def flow(x):\n    return id(x)  #! id() -> a field",
    "hash": "async def flow(x):\n    return hash(x)  #! hash() -> hashlib",
    "id as key": "async def flow(x):\n    return sorted(x, key=id)  #! id -> a field",
    "global": """
        COUNT = 0
        async def flow():
            global COUNT
            COUNT += 1  #! a write to the global COUNT -> a local variable
    """,
    "global in a helper": """
        def note(value):
            global LAST
            LAST = value  #! a write to the global LAST -> a local variable
        async def flow():
            note(1)
    """,
    "lambda": "import time\nasync def flow():\n    return lambda: time.time()  #! time.time() -> keyleaf.now()",
    "nested function": """
        import time
        async def flow():
            def inside(at=time.time()):  #! time.time() -> keyleaf.now()
                return time.monotonic()  #! time.monotonic() -> keyleaf.now()
            return inside
    """,
    "comprehension": """
        import uuid
        async def flow():
            return [uuid.uuid4() for _ in range(3)]  #! uuid.uuid4() -> keyleaf.uuid()
    """,
    "two in a line": """
        import os, time
        async def flow():
            return os.getpid(), time.time()  #! os.getpid() -> an activity; time.time() -> keyleaf.now()
    """,
    "helper": """
        import time
        def stamp():
            return time.time()  #! time.time() -> keyleaf.now()
        async def flow():
            return stamp()
    """,
    "helper of a helper, further down": """
        async def flow():
            return await one()
        async def one():
            return two()
        def two():
            return uuid.uuid4()  #! uuid.uuid4() -> keyleaf.uuid()
        import uuid
    """,
    "method": """
        import time
        class Prices:
            def __init__(self, table):
                self.at = time.time()  #! time.time() -> keyleaf.now()
            def total(self):
                return self.tax()
            def tax(self):
                return time.monotonic()  #! time.monotonic() -> keyleaf.now()
        async def flow():
            return Prices({}).total()
    """,
    "static, class method and property": """
        import time
        class Prices:
            @staticmethod
            def one():
                return time.time()  #! time.time() -> keyleaf.now()
            @classmethod
            def two(cls):
                return time.time()  #! time.time() -> keyleaf.now()
            @property
            def three(self):
                return time.time()  #! time.time() -> keyleaf.now()
        PRICES = Prices()
        async def flow():
            return Prices.one(), Prices.two(), PRICES.three
    """,
    "method of a parameter": """
        import time
        class Order:
            def age(self):
                return time.time()  #! time.time() -> keyleaf.now()
        async def flow(order: Order):
            return order.age()
    """,
    "context manager": """
        import time
        class Watch:
            def __enter__(self):
                self.begun = time.time()  #! time.time() -> keyleaf.now()
            def __exit__(self, *error):
                pass
        async def flow():
            with Watch():
                pass
    """,
    "closure": """
        import time
        def make():
            clock = time.time
            async def flow():
                return clock()  #! time.time() -> keyleaf.now()
            return flow
        flow = make()
    """,
    "decorated": """
        import functools, time
        def twice(function):
            @functools.wraps(function)
            async def both(*args):
                await function(*args)
                return await function(*args), time.time()  #! time.time() -> keyleaf.now()
            return both
        @twice
        async def flow():
            return time.monotonic()  #! time.monotonic() -> keyleaf.now()
    """,
    "callback": """
        import time
        def key(line):
            return time.time()  #! time.time() -> keyleaf.now()
        async def flow(lines):
            return sorted(lines, key=key)
    """,
    "default of a dataclass": """
        import time
        from dataclasses import dataclass, field
        from datetime import datetime
        from uuid import uuid4
        @dataclass
        class Order:
            number: int
            key: object = field(default_factory=uuid4)
            at: float = field(default_factory=lambda: time.time())  #! time.time() -> keyleaf.now()
            tags: list = field(default_factory=list)
            seed: int = field(default_factory=time.time_ns, kw_only=True)
        async def flow(tags):
            Order(1, 2, 3, tags)  #! time.time_ns() for the field seed -> keyleaf.now()
            return Order(1, seed=2)  #! uuid.uuid4() for the field key -> keyleaf.uuid()
    """,
    "default of a struct": """
        import time
        import msgspec
        class Order(msgspec.Struct):
            number: int
            lines: "list[Unknown]" = []
            at: float = msgspec.field(default_factory=time.time)
        async def flow():
            return Order(number=1)  #! time.time() for the field at -> keyleaf.now()
    """,
    "partial": """
        import functools, time
        def stamp(line):
            return time.time()  #! time.time() -> keyleaf.now()
        flow = functools.partial(stamp, 1)
    """,
}

PURE = {
    "local called time": "import time\nasync def flow():\n    time = Clock()\n    return time.time()",
    "parameter called random": "import random\nasync def flow(random):\n    return random.random()",
    "parameter typed Random": """
        import random
        async def flow(dice: random.Random):
            return dice.random()
    """,
    "loop variable called os": "import os\nasync def flow(xs):\n    for os in xs:\n        os.getpid()",
    "comprehension variable called time": "import time\nasync def flow(xs):\n    return [time.time() for time in xs]",
    "lambda parameter": "import time\nasync def flow():\n    return lambda time: time.time()",
    "with as": "import socket\nasync def flow(xs):\n    with xs as socket:\n        socket.socket()",
    "except as": """
        import time
        async def flow():
            try:
                pass
            except Exception as time:
                time.time()
    """,
    "match capture": """
        import time
        async def flow(x):
            match x:
                case {"time": time, **os}:
                    return time.time(), os.getpid()
                case [*random]:
                    return random.random()
    """,
    "walrus": "import time\nasync def flow(x):\n    return (time := x.clock) and time.time()",
    "function of the module called open": "def open(x):\n    return x\nasync def flow():\n    return open(1)",
    "field called id": "id = 'order'\nasync def flow():\n    return id",
    "attribute called time": "async def flow(order):\n    return order.time.time(), order.datetime.now(), order.open()",
    "datetime made": """
        from datetime import UTC, date, datetime, timedelta
        async def flow():
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1), date(2026, 1, 1), datetime.fromisoformat("a")
    """,
    "time of something": """
        import time
        async def flow(x):
            return time.gmtime(x), time.strftime('%Y', x), time.struct_time
    """,
    "seeded generator": "import random\nasync def flow(x):\n    return random.Random(x).random()",
    "seeded generator in a local": """
        import random
        async def flow(x):
            dice = random.Random(x)
            return dice.choice([1, 2]), isinstance(dice, random.Random)
    """,
    "uuid5": "import uuid\nasync def flow():\n    return uuid.uuid5(uuid.NAMESPACE_URL, 'a'), uuid.UUID(int=1)",
    "paths that stay on paper": """
        import os.path
        from pathlib import Path, PurePosixPath
        async def flow():
            return os.path.join("a", "b"), Path("a") / "b", Path("a").name, PurePosixPath("a").parent, os.fspath("a")
    """,
    "os constants": "import os\nasync def flow():\n    return os.sep, os.linesep, os.O_RDONLY",
    "errors of libraries": """
        import socket, subprocess
        async def flow(step):
            try:
                await step
            except (subprocess.CalledProcessError, socket.timeout, TimeoutError):
                return socket.AF_INET
    """,
    "types of libraries": """
        import threading, httpx2
        async def flow(x: httpx2.Client):
            def inside(y: threading.Thread) -> httpx2.AsyncClient: ...
            z: httpx2.Client
            return isinstance(x, threading.Thread)
    """,
    "print": "async def flow():\n    print('again at replay')",
    "logging": "import logging\nasync def flow():\n    logging.getLogger(__name__).info('x')",
    "keyleaf's words": """
        import keyleaf
        from keyleaf import first, gather, now, random, sleep, uuid
        async def flow():
            await sleep(1)
            await keyleaf.sleep(1)
            await gather(first(sleep(1)))
            return now(), random().random(), uuid(), keyleaf.uuid()
    """,
    "activity": """
        import time
        from keyleaf import activity
        from keyleaf.orchestrate.definitions import Registry
        @activity(registry=Registry())
        def stamp() -> float:
            return time.time()
        async def flow():
            return await stamp()
    """,
    "activity further down": """
        import time
        async def flow():
            return await stamp()
        def activity(function):
            function.__keyleaf_activity__ = True
            return function
        @activity
        def stamp():
            return time.time()
    """,
    "marked function": """
        import time
        def stamp():
            return time.time()
        stamp.__keyleaf_activity__ = True
        async def flow():
            return await stamp()
    """,
    "sets whose order does not matter": """
        async def flow(names):
            seen = set(names)
            if "a" in seen and len(seen) > 1 and any(name for name in seen):
                seen.add("b")
            return sorted(seen), max({"a"}), {name for name in seen}, sorted(n for n in seen), {*seen}
    """,
    "sets of numbers": "N = {1, 2}\nasync def flow():\n    return [each for each in {1, 2, 3}], [each for each in N]",
    "name that was a set": """
        async def flow(names):
            names = set(names)
            names = sorted(names)
            return [name for name in names]
    """,
    "pop of a list": "async def flow(names):\n    return names.pop()",
    "read of a global": "LIMIT = 3\nasync def flow():\n    return LIMIT",
    "nonlocal": """
        async def flow():
            count = 0
            def more():
                nonlocal count
                count += 1
            more()
            return count
    """,
    "names itself": "async def flow(a):\n    b = b.b\n    c = d\n    d = c\n    return c.x() + b()",
    "recursion": "async def flow(n):\n    return n and await flow(n - 1)",
    "function of another package": "import json\nasync def flow(x):\n    return json.loads(x)",
    "mark of an author's class": """
        class Hash:
            def hash(self):
                return 1
        async def flow():
            return Hash().hash()
    """,
    "defaults that are given": """
        import time
        from dataclasses import dataclass, field
        import msgspec
        @dataclass
        class Order:
            number: int
            at: float = field(default_factory=time.time)
        class Receipt(msgspec.Struct):
            at: float = msgspec.field(default_factory=time.time)
        async def flow(now, fields):
            Order(1, now), Order(1, at=now), Order(**fields), Order(*fields), Receipt(now)
            return isinstance(now, Order)
    """,
    "unknown name": "async def flow():\n    return nothing_of_this_name.read_text()",
}

MARK = re.compile(r"#! (?P<marks>.+)$")


def load(folder: Path, text: str, name: str = "flows") -> ModuleType:
    """A module with real source."""
    file = folder / f"{name}.py"
    file.write_text(inspect.cleandoc("\n" + text) + "\n")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marked(text: str) -> list[tuple[int, str, str]]:
    """What the marks of a snippet expect."""
    found = []
    for number, line in enumerate(inspect.cleandoc("\n" + text).splitlines(), start=1):
        mark = MARK.search(line)
        for each in mark["marks"].split("; ") if mark else []:
            what, _, instead = each.partition(" -> ")
            found.append((number, what, instead))
    return sorted(found)


@pytest.mark.parametrize("text", IMPURE.values(), ids=IMPURE.keys())
def test_found(tmp_path: Path, text: str) -> None:
    module = load(tmp_path, text)
    found = impurities(module.flow)
    expected = marked(text)
    assert expected
    assert [(each.where.line, each.what) for each in found] == [(line, what) for line, what, _ in expected]
    for each, (_, _, instead) in zip(found, expected, strict=True):
        assert each.instead.startswith(instead)
        assert each.where.file == (tmp_path / "flows.py").as_posix()


@pytest.mark.parametrize("text", PURE.values(), ids=PURE.keys())
def test_not_found(tmp_path: Path, text: str) -> None:
    assert impurities(load(tmp_path, text).flow) == []


def test_the_function_is_named(tmp_path: Path) -> None:
    text = """
        import time
        class Prices:
            def now(self):
                return time.time()
        def stamp():
            return [time.time() for _ in range(3)]
        async def flow():
            return stamp(), Prices().now(), (lambda: time.time())()
    """
    assert [each.function for each in impurities(load(tmp_path, text).flow)] == ["Prices.now", "stamp", "flow"]


def test_places_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    module = load(tmp_path / "app", "import time\nasync def flow():\n    time.time()")
    assert [str(each) for each in impurities(module.flow)] == ["app/flows.py:3: time.time() in flow: use keyleaf.now()"]


def test_the_package_is_followed_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {
        "shop_of_tests/__init__.py": "",
        "shop_of_tests/prices.py": "import time\ndef total():\n    return time.time()\n",
        "tools_of_tests.py": "import time\ndef total():\n    return time.time()\n",
        "shop_of_tests/flows.py": (
            "import tools_of_tests\nfrom . import prices as p\n"
            "async def flow():\n    from .prices import total\n    return p.total(), total(), tools_of_tests.total()\n"
        ),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    flows = importlib.import_module("shop_of_tests.flows")
    found = impurities(flows.flow)
    assert [(Path(each.where.file).name, each.where.line, each.function) for each in found] == [
        ("prices.py", 3, "total")
    ]


def test_lambdas_of_one_line_are_told_apart(tmp_path: Path) -> None:
    text = "import time\none, two = (lambda: time.time()), (lambda: lambda time: time.time())\nthree = lambda: one()"
    module = load(tmp_path, text)
    assert [each.what for each in impurities(module.one)] == ["time.time()"]
    assert impurities(module.two) == []
    assert impurities(module.two()) == []
    assert [(each.what, each.function) for each in impurities(module.three)] == [("time.time()", "<lambda>")]


def test_without_source_the_bytecode_is_looked_at() -> None:
    text = (
        "import os, time, uuid\nfrom datetime import datetime as dt\n"
        "def helper():\n    return uuid.uuid4()\n"
        "async def flow(time2):\n    global X\n    X = time2.time(dt(2026, 1, 1))\n"
        "    return [os.environ['A'] for _ in range(2)], dt.now(), helper(), time.strftime\n"
    )
    names: dict[str, Any] = {"__name__": "nowhere"}
    exec(compile(text, "<nowhere>", "exec"), names)
    assert [(each.where.line, each.what, each.function) for each in impurities(names["flow"])] == [
        (4, "uuid.uuid4()", "helper"),
        (7, "a write to the global X", "flow"),
        (8, "datetime.now()", "flow"),
        (8, "os.environ", "flow"),
    ]


def test_what_is_no_python_function_has_no_impurities() -> None:
    class Called:
        def __call__(self) -> None: ...

    assert [impurities(each) for each in (len, Called(), int, asyncio.sleep.__get__)] == [[], [], [], []]


def test_source_that_changed_after_loading_is_not_read_as_the_function(tmp_path: Path) -> None:
    module = load(tmp_path, "import time\nasync def flow():\n    return 1\n")
    (tmp_path / "flows.py").write_text("async def flow(:\n")
    assert impurities(module.flow) == []


def test_an_expression_nested_too_deeply_is_looked_at_in_bytecode(tmp_path: Path) -> None:
    module = load(tmp_path, "import time\nasync def flow(x):\n    return " + "+".join(["x"] * 900) + " + time.time()")
    assert [each.what for each in impurities(module.flow)] == ["time.time()"]


def test_all_are_listed_one_in_a_line(tmp_path: Path) -> None:
    module = load(tmp_path, "import time, os\nasync def flow():\n    time.time() + time.time()\n    os.getpid()")
    file = (tmp_path / "flows.py").as_posix()
    with pytest.raises(NondeterminismError) as raised:
        require_deterministic(module.flow)
    assert raised.value.message.splitlines() == [
        "orchestration flow does what only an activity may do:",
        f"  {file}:3: time.time() in flow: use keyleaf.now()",
        f"  {file}:4: os.getpid() in flow: use an activity",
    ]
    assert isinstance(raised.value, InputError)
    assert raised.value.where is not None and str(raised.value.where) == f"{file}:3"


def test_an_orchestration_is_refused_where_it_is_declared() -> None:
    async def flow() -> str:
        return Path("a").read_text()

    registry = Registry()
    with pytest.raises(NondeterminismError, match=r"Path\.read_text\(\) in .*flow: use an activity"):
        orchestration(flow, registry=registry)
    assert registry.orchestrations == {}


def test_an_activity_may_do_all_of_it() -> None:
    async def read() -> str:
        return Path("a").read_text()

    assert activity(read, registry=Registry()).definition.function is read


def functions_of(*modules: str) -> list[FunctionType]:
    """The functions and methods that modules of the standard library define."""
    found = []
    for name in modules:
        module = importlib.import_module(name)
        for held in vars(module).values():
            inside = vars(held).values() if isinstance(held, type) and held.__module__ == name else [held]
            found += [each for each in inside if isinstance(each, FunctionType)]
    return found


FUNCTIONS = functions_of(
    "argparse",
    "asyncio.base_events",
    "collections",
    "contextlib",
    "dataclasses",
    "email.message",
    "enum",
    "functools",
    "http.server",
    "inspect",
    "json.decoder",
    "logging",
    "pathlib",
    "random",
    "subprocess",
    "tarfile",
    "threading",
    "typing",
    "unittest.mock",
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FUNCTIONS), st.booleans())
def test_any_function_can_be_looked_at(function: FunctionType, with_source: bool) -> None:
    if not with_source:
        code = function.__code__.replace(co_filename="<nowhere>")
        function = types.FunctionType(
            code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
    for each in impurities(function):
        assert each.what and each.function and each.instead and each.where.line > 0


def test_the_standard_library_is_seen_through() -> None:
    by_name = {function.__qualname__: function for function in FUNCTIONS}
    assert "os.urandom()" in [each.what for each in impurities(by_name["SystemRandom.randbytes"])]
    assert "time.time()" in [each.what for each in impurities(by_name["LogRecord.__init__"])]
