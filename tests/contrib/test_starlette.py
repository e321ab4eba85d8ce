"""An application of FastAPI sends with one client, which lives as long as it does."""

from typing import Annotated

import pytest

from speedsms import AsyncSpeedSMS


def test_a_view_sends(sms_gateway):
    """All requests share the client of the lifespan; the environment says where it sends."""
    fastapi = pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from speedsms.contrib.starlette import sms_client, sms_lifespan

    app, clients = fastapi.FastAPI(lifespan=sms_lifespan(timeout_s=60)), set()

    @app.post("/welcome/{phone}")
    async def welcome(phone: str, sms: Annotated[AsyncSpeedSMS, fastapi.Depends(sms_client)]) -> int:
        clients.add(sms)
        return (await sms.send(phone, "Xin chao")).total_sms

    with TestClient(app) as browser:
        assert [browser.post(f"/welcome/091234567{n}").json() for n in range(3)] == [1, 1, 1]
    assert len(clients) == 1
    assert len(sms_gateway.messages) == 3
