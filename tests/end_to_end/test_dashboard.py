"""The dashboard in a real browser: what a person sees and does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan, caravan_in, random_file, wait_for_contacts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]

# Without these, Chromium asks hosts of its maker at every start.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


def chromium() -> str:
    """Return where Chromium is; without it a skip, under CI a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium must be installed here; .ci/run does it")
        pytest.skip("chromium is not installed")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless browser."""
    from playwright.sync_api import sync_playwright

    program = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NodeProcess]]:
    """Five nodes; the first one's dashboard is looked at."""
    with caravan_in(tmp_path_factory.mktemp("dashboard")) as caravan:
        yield _network(caravan)


def _network(caravan: Caravan) -> list[NodeProcess]:
    first = caravan.join("n0")
    others = [caravan.join(f"n{number}", first.address) for number in range(1, 5)]
    wait_for_contacts([first, *others], 3)
    file, _ = random_file(caravan.folder / "toy-1.0.tar.gz", 300_000)
    others[0].ask("publish", str(file), "--name", "toy", "--version", "1.0")
    return [first, *others]


@pytest.fixture
def page(browser: Browser, network: list[NodeProcess]) -> Iterator[Page]:
    """Open a signed-in page that fails on any error or foreign request."""
    yield from opened(browser, network[0])


def opened(browser: Browser, node: NodeProcess, **options: Any) -> Iterator[Page]:
    context = browser.new_context(**options)
    page = context.new_page()
    wrong: list[str] = []
    own = f"http://{node.ready['web']}/"
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda line: wrong.append(line.text) if line.type == "error" else None,
    )
    page.on(
        "request",
        lambda one: (
            None if one.url.startswith((own, "data:")) else wrong.append(one.url)
        ),
    )
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(node.ask("open")["url"])
    page.wait_for_url(own)
    page.get_by_text("live", exact=True).wait_for()
    yield page
    context.close()
    assert wrong == []


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong with the page."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{one['id']}: {[node['target'] for node in one['nodes']]}"
        for one in Axe().run(page).response["violations"]
    ]


def test_without_the_link_the_page_shows_nothing(
    browser: Browser, network: list[NodeProcess]
) -> None:
    page = browser.new_page()
    page.goto(f"http://{network[0].ready['web']}/")
    assert "caravan open" in page.inner_text("body")
    assert network[0].ready["node_id"] not in page.content()
    assert violations(page) == []
    page.close()


def test_it_says_what_the_node_is(page: Page, network: list[NodeProcess]) -> None:
    facts = page.locator("#node-facts")
    facts.get_by_text(network[0].ready["node_id"]).wait_for()
    facts.get_by_text(network[0].address).wait_for()
    page.locator("#peer-rows").get_by_text(network[1].address).wait_for()


def test_a_lookup_is_drawn_on_the_ring(page: Page, network: list[NodeProcess]) -> None:
    (held,) = [
        one for one in network[1].ask("list")["artifacts"] if "toy" in one["file"]
    ][:1]
    page.get_by_label("Digest").fill(held["digest"])
    page.get_by_role("button", name="Look up").click()
    page.locator("#ring-words").get_by_text("Offered by").wait_for()
    assert network[1].address in page.inner_text("#ring-words")
    titles = page.locator("#ring-view title").all_text_contents()
    assert any(title.endswith("answered") for title in titles), titles


def test_a_file_that_is_dropped_is_shared_and_listed(
    page: Page, network: list[NodeProcess], tmp_path: Path
) -> None:
    file, digest = random_file(tmp_path / "dropped.bin", 70_000, seed=5)
    page.get_by_label("Files").set_input_files(file)
    page.get_by_role("button", name="Only share the files").click()
    page.locator("#drop-words").get_by_text(digest).wait_for()
    page.locator("#content-rows").get_by_text("dropped.bin").wait_for()
    page.get_by_role("button", name="Pin dropped.bin").click()
    page.get_by_role("button", name="Unpin dropped.bin").wait_for()
    assert network[2].run("lookup", digest).exit_code == 0


def test_a_package_is_published_from_the_page(
    page: Page, network: list[NodeProcess], tmp_path: Path
) -> None:
    file, _ = random_file(tmp_path / "made-2.0.tar.gz", 5_000, seed=6)
    network[0].run("key", "new")
    page.get_by_label("Files").set_input_files(file)
    page.locator("#drop-form").get_by_label("Name").fill("made")
    page.locator("#drop-form").get_by_label("Version").fill("2.0")
    page.get_by_role("button", name="Publish as a package").click()
    page.locator("#drop-words").get_by_text("Published made 2.0").wait_for()
    page.locator("#content-rows").get_by_text("made 2.0").wait_for()


def test_limits_doctor_and_a_wrong_follow(page: Page) -> None:
    page.get_by_label("Upload, KiB per second").fill("500")
    page.get_by_role("button", name="Set").click()
    page.locator("#limits-words").get_by_text("Set.").wait_for()
    page.get_by_role("button", name="Check now").click()
    page.locator("#health-rows").get_by_text("disk").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", sorted(SIZES))
def test_it_is_accessible_and_fits(
    browser: Browser,
    network: list[NodeProcess],
    tmp_path: Path,
    scheme: str,
    size: str,
) -> None:
    """Axe finds nothing, and nothing is wider than the window; a picture is kept."""
    width, height = SIZES[size]
    viewport = {"width": width, "height": height}
    for page in opened(browser, network[0], viewport=viewport, color_scheme=scheme):
        page.locator("#peer-rows table").wait_for()
        page.locator("#speed canvas").wait_for()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        kept = Path(os.environ.get("CARAVAN_TEST_OUTPUT", str(tmp_path)))
        kept.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=kept / f"dashboard-{size}-{scheme}.png", full_page=True)


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Log", "Look up", "Follow", "Set", "Check now"} <= reached


def test_a_download_is_seen_while_it_comes(
    browser: Browser, network: list[NodeProcess], tmp_path: Path
) -> None:
    """With its peers; the limit that is set on the page holds for it."""
    file, digest = random_file(tmp_path / "large.bin", 24 * 1024 * 1024, seed=9)
    network[1].ask("share", str(file))
    for page in opened(browser, network[0]):
        page.get_by_label("Download, KiB per second").fill("4096")
        page.get_by_role("button", name="Set").click()
        page.locator("#limits-words").get_by_text("Set.").wait_for()
        with ThreadPoolExecutor(1) as pool:
            fetching = pool.submit(network[0].ask, "fetch", digest)
            rows = page.locator("#transfer-rows")
            rows.get_by_text("of 24.0 MiB").wait_for()
            rows.get_by_text(network[1].address).wait_for()
            fetching.result()
        rows.get_by_text("Nothing is on its way").wait_for()


def test_a_limit_that_is_set_shows_in_the_status(
    page: Page, network: list[NodeProcess]
) -> None:
    page.get_by_label("Upload, KiB per second").fill("123")
    page.get_by_role("button", name="Set").click()
    page.locator("#limits-words").get_by_text("Set.").wait_for()
    limits = network[0].ask("status")["limits"]
    assert limits["upload_bytes_per_second"] == 123 * 1024
    assert limits["download_bytes_per_second"] is None
    page.get_by_placeholder("123 now").wait_for()
