"""Who reads a page in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait


class Reader:
    """Who opens the page, with an address, and looks and types."""

    def __init__(self, driver: webdriver.Chrome, page: Path) -> None:
        self.driver, self.page = driver, page
        self.open()

    def open(self, **chosen: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.page.as_uri()}#{urlencode(chosen)}")
        self.until(lambda: self.run("return document.body.dataset.ready"))

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def until(self, true: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 30, 0.05).until(lambda _: true())

    def drawn(self, figure: WebElement) -> None:
        """Scroll to a plot and wait for it."""
        self.run("arguments[0].scrollIntoView()", figure)
        self.until(lambda: figure.find_elements(By.CSS_SELECTOR, ".main-svg"))

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, f"article:not([hidden]) {selector}, body > {selector}")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, f"article:not([hidden]) {selector}")

    def column(self, name: str) -> list[str]:
        """The texts of a column of the ranking, from above."""
        heads = [th.get_attribute("data-name") for th in self.all("table.ranking thead th")]
        return [row.find_elements(By.TAG_NAME, "td")[heads.index(name)].text for row in self.rows()]

    def rows(self) -> list[WebElement]:
        return [row for row in self.all("table.ranking tbody tr") if row.get_attribute("data-board")]

    def address(self) -> dict[str, str]:
        return {
            key: value[0]
            for key, value in parse_qs(self.driver.current_url.partition("#")[2], keep_blank_values=True).items()
        }

    def addressed(self, **chosen: str) -> None:
        self.until(lambda: chosen.items() <= self.address().items())

    def choose(self, key: str, value: str) -> None:
        options = Select(self.one(f".browser [data-key={key}]")).options
        next(option for option in options if option.get_attribute("value") == value).click()
