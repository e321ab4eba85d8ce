"""The tasks of a project with Celery; its broker is a folder, so that nothing else has to run."""

import os
from functools import cache
from pathlib import Path

from celery import Celery

from speedsms import SpeedSMS
from speedsms.contrib.celery import send_task

folder = Path(os.environ["SAMPLE_FOLDER"])
(folder / "queue").mkdir(exist_ok=True)
(folder / "results").mkdir(exist_ok=True)

app = Celery("sample", broker="filesystem://", backend=(folder / "results").as_uri())
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "queue"),
    "data_folder_out": str(folder / "queue"),
    "control_folder": str(folder / "control"),
    "polling_interval": 0.05,
}
app.conf.worker_enable_remote_control = False  # it would be a second queue to poll
app.conf.worker_lost_wait = 0.2


@cache
def client():
    """One for each process of the worker."""
    return SpeedSMS(honours_keys=True)


send = send_task(app, client)
