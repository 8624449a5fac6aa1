/** System packages on Debian and Ubuntu, as root or where sudo asks no password. */
import { ToolError, query, run, say, which } from "./process.mjs";

let listsAreFresh = false;

/**
 * Installs packages, saying why.
 *
 * @param {string} what what the packages bring, for the person.
 * @param {string} otherwise what to do where they cannot be installed from here.
 * @throws {ToolError} with `otherwise` where there is no apt, no right to use it, or it fails.
 */
export async function aptInstall(what, packages, otherwise) {
  const asRoot = process.getuid?.() === 0;
  const bySudo = !asRoot && query("sudo", ["-n", "true"]) !== undefined;
  if (which("apt-get") === undefined || !(asRoot || bySudo)) {
    throw new ToolError(`${what} is missing. ${otherwise}`);
  }
  say(`set-up: installing ${what} (apt-get install ${packages.join(" ")})`);
  const prefix = [...(bySudo ? ["sudo", "-n"] : []), "env", "DEBIAN_FRONTEND=noninteractive"];
  const apt = (...args) => run(prefix[0], [...prefix.slice(1), "apt-get", "-qq", ...args]);
  try {
    if (!listsAreFresh) await apt("update");
    listsAreFresh = true;
    await apt("install", "-y", "--no-install-recommends", ...packages);
  } catch (error) {
    throw new ToolError(`${what} could not be installed: ${error.message}. ${otherwise}`);
  }
}
