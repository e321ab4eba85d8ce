"""Certificates are verified: a token never goes to a server that nobody vouches for."""

import http.server
import json
import ssl
import subprocess
import threading

import pytest
from programs import RUNTIMES_TRUST, Programs

pytestmark = pytest.mark.slow

TOKEN = "token_of_nobody_at_all"
ACCOUNT = {
    "status": "success",
    "code": "00",
    "data": {"email": "tls@example.com", "balance": 1, "currency": "VND"},
}


class _Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.headers["Authorization"])
        body = json.dumps(ACCOUNT, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    def finish_request(self, request, client_address):
        """The handshake, in the connection's own thread."""
        try:
            with self.context.wrap_socket(request, server_side=True) as secure:
                self.RequestHandlerClass(secure, client_address, self)
        except OSError:
            pass  # the client did not like the certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """One that nobody vouches for: the path of its PEM, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    pem, key = folder / "certificate.pem", folder / "key.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(
        [*request, "-addext", "subjectAltName=DNS:localhost", "-out", pem, "-keyout", key],
        check=True,
        capture_output=True,
    )
    return pem, key


@pytest.fixture
def service(certificate):
    """A service behind that certificate; `asked` holds the credentials that it saw."""
    with _Server(("127.0.0.1", 0), _Service) as server:
        server.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.context.load_cert_chain(*certificate)
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_unknown_certificate_gets_no_token(together, service):
    """Every program ends with an error, and nothing was asked."""

    def check(programs, _):
        done = programs("account", SPEEDSMS_BASE_URL=f"https://localhost:{service.server_port}")
        assert done.code != 0

    together(check)
    assert service.asked == []


@pytest.mark.parametrize("language", RUNTIMES_TRUST, indirect=True)
def test_a_known_certificate_is_taken(language, built, service, certificate):
    """The same server once its certificate is trusted: so it was the certificate that was refused."""
    programs = Programs(language, built, f"https://localhost:{service.server_port}", TOKEN)
    done = programs("account", **RUNTIMES_TRUST[language](certificate[0]))
    assert "tls@example.com" in done.out, done.err
    assert len(service.asked) == 1
