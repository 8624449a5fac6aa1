/** Light or dark: the system's choice until somebody presses the button, then theirs. Runs before the first paint. */

const KEY = "pesi.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    // Storage may be switched off; the theme then lasts as long as the page.
    return null;
  }
}

function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen === undefined ? dark.matches : chosen === "dark";
}

function showState(button: HTMLElement): void {
  button.setAttribute("aria-pressed", String(isDark()));
}

const chosen = stored();
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;

const button = document.getElementById("theme");
if (button !== null) {
  showState(button);
  dark.addEventListener("change", () => showState(button));
  button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    showState(button);
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // As above.
    }
  });
}

export {};
