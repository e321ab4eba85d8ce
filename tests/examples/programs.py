"""The example programs: what each language needs, and how its programs are built and started."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ports import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
CALLS = ("account", "send", "voice", "pin", "status", "mms", "webhook")
LIMIT_S = 60
# A start of the JVM that compiles little: these programs run for a moment.
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp")


@dataclass(frozen=True, slots=True)
class Language:
    """command: of a call's program, given the folder of what was built."""

    name: str
    needs: tuple[str, ...]
    command: Callable[[str, Path], list[str]]


LANGUAGES = {
    language.name: language
    for language in (
        Language("php", ("php",), lambda call, _: ["php", f"{EXAMPLES}/php/{call}.php"]),
        Language("java", ("java", "javac"), lambda call, built: [*JAVA, str(built), call.capitalize()]),
        Language("csharp", ("mono", "mcs"), lambda call, built: ["mono", f"{built}/{call.capitalize()}.exe"]),
        Language("node", ("node",), lambda call, _: ["node", f"{EXAMPLES}/node/{call}.mjs"]),
        Language("curl", ("bash", "curl"), lambda call, _: ["bash", f"{EXAMPLES}/curl/{call}.sh"]),
        Language("python", (), lambda call, _: [sys.executable, f"{EXAMPLES}/python/{call}.py"]),
        Language(
            "python-stdlib", (), lambda call, _: [sys.executable, f"{EXAMPLES}/python-stdlib/{call}.py"]
        ),
    )
}
RECEIVERS = [name for name in LANGUAGES if name != "curl"]  # curl receives nothing


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str


class Programs:
    """The programs of one language, against one service."""

    def __init__(self, language, built, base_url, token):
        self.language = language
        self._built = built
        self.environment = environment(SPEEDSMS_BASE_URL=base_url, SPEEDSMS_TOKEN=token)

    def __call__(self, call, *arguments, **variables):
        """Run a program to its end. What it prints never holds the token."""
        done = subprocess.run(
            [*LANGUAGES[self.language].command(call, self._built), *arguments],
            env=self.environment | variables,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            encoding="utf8",
        )
        assert self.environment["SPEEDSMS_TOKEN"] not in done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def send(self, text, numbers, *more, key=""):
        """`send`; curl takes a key from the environment."""
        if self.language == "curl":
            return self("send", text, numbers, *more, IDEMPOTENCY_KEY=key)
        return self("send", text, numbers, *(more or ("2", "")), *([key] if key else []))


def environment(**variables):
    """What a program needs of ours, in a locale that knows accents."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8"} | variables


def found(language):
    """Whether this machine has the runtime; on CI it has to."""
    missing = [command for command in LANGUAGES[language].needs if not shutil.which(command)]
    assert not (missing and os.environ.get("CI")), f"{language} needs {', '.join(missing)}"
    return not missing


def needed(language):
    """Skip what this machine has no runtime for."""
    if not found(language):
        pytest.skip(f"{language} needs {', '.join(LANGUAGES[language].needs)}")


def build(language, folder):
    """Compile a language's programs once, whichever process comes first. A warning is an error."""
    folder.mkdir(exist_ok=True)
    done = folder / f"{language}.done"
    with (folder / f"{language}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(_compile, COMPILERS.get(language, lambda _: [])(folder)))
            done.touch()
    return folder


def _java(folder):
    sources = [*EXAMPLES.glob("java/*.java"), *EXAMPLES.glob("vendor-style/*.java")]
    options = ["--release", "11", "-encoding", "UTF-8", "-Xlint:all,-serial,-options", "-Werror"]
    return [["javac", *options, "-d", str(folder), *map(str, sources)]]


def _csharp(folder):
    shared = [f"{EXAMPLES}/csharp/{name}.cs" for name in ("SpeedSms", "Json")]
    programs = {call.capitalize(): [f"{EXAMPLES}/csharp/{call.capitalize()}.cs", *shared] for call in CALLS}
    programs["ChallengeFirst"] = [f"{EXAMPLES}/vendor-style/ChallengeFirst.cs"]
    libraries = ["-r:System.Net.Http", "-r:System.Web.Extensions"]
    return [
        ["mcs", "-warnaserror", f"-out:{folder}/{name}.exe", *sources, *libraries]
        for name, sources in programs.items()
    ]


COMPILERS = {"java": _java, "csharp": _csharp}


def _compile(command):
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


class Receiver:
    """A webhook receiver of one language, as a context manager; `url` is where it listens."""

    def __init__(self, language, built, secrets):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        command = LANGUAGES[language].command("webhook", built)
        self._command = (
            ["php", "-S", f"127.0.0.1:{port}", command[1]] if language == "php" else [*command, str(port)]
        )
        self.secrets(secrets)

    def secrets(self, secrets):
        """One or more, separated by spaces; before it starts."""
        self._environment = environment(WEBHOOK_SECRET=secrets)

    def __enter__(self):
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf8",
        )
        self.line("listening on", "Development Server")
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()

    def line(self, *words):
        """The next line with one of these words; the receiver must not end before."""
        seen = []
        for line in self._process.stdout:
            seen.append(line)
            if any(word in line for word in words):
                return line.rstrip("\n")
        raise AssertionError("".join(seen))


def _php(pem):
    (pem.parent / "php.ini").write_text(f"curl.cainfo={pem}\n")
    return {"PHPRC": str(pem.parent)}


def _truststore(pem):
    store = pem.with_suffix(".p12")
    store.unlink(missing_ok=True)
    command = [
        "keytool",
        "-importcert",
        "-noprompt",
        "-storepass",
        "changeit",
        "-file",
        pem,
        "-keystore",
        store,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
    options = f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit"
    return {"JAVA_TOOL_OPTIONS": options}


# How a runtime is told to trust one more certificate. Mono has a store of its own, our SDK an argument.
RUNTIMES_TRUST = {
    "php": _php,
    "java": _truststore,
    "node": lambda pem: {"NODE_EXTRA_CA_CERTS": str(pem)},
    "curl": lambda pem: {"CURL_CA_BUNDLE": str(pem)},
    "python-stdlib": lambda pem: {"SSL_CERT_FILE": str(pem)},
}
