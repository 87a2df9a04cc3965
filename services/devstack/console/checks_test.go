package console_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// axeDir is where axe-core is fetched to, which Git ignores.
const axeDir = "../../../.build/axe"

var fetchAxe = sync.OnceValues(func() (string, error) {
	if err := os.MkdirAll(axeDir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(axeDir, name), content, 0o644)
		}
		if err != nil {
			return "", err
		}
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefer-offline")
	install.Dir = axeDir
	if out, err := install.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	script, err := os.ReadFile(filepath.Join(axeDir, "node_modules/axe-core/axe.min.js"))
	return string(script), err
})

// axeScript returns axe-core; "" where npm is missing.
func axeScript(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Log("npm is missing: the page is not checked with axe-core. Install Node.js to have it checked.")
		return ""
	}
	script, err := fetchAxe()
	if err != nil {
		t.Fatalf("fetch axe-core: %v", err)
	}
	return script
}

// axe lists what axe-core finds wrong with the page, by its rules for WCAG 2.2 at level AA and its best practices.
func (b *browser) axe() []string {
	b.t.Helper()
	script := axeScript(b.t)
	if script == "" {
		return nil
	}
	// The DevTools protocol runs it without regard to the page's policy, which forbids scripts of others.
	b.do(chromedp.Evaluate[chromedp.Void](script + "; undefined"))
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`axe.run({ resultTypes: ["violations"] }).then((r) =>
		r.violations.flatMap((v) => v.nodes.map((n) => v.id + " " + n.target + ": " + n.failureSummary)))`,
		chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// layoutFaults lists what is wider than the page, cut off or, for fingers, smaller than 44 pixels.
func (b *browser) layoutFaults(touch bool) []string {
	b.t.Helper()
	return eval[[]string](b, `((touch) => {
		const out = [], width = document.documentElement.clientWidth;
		const name = (e) => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") +
			(e.getAttribute("class") ? "." + e.getAttribute("class").replaceAll(" ", ".") : "") + " " +
			(e.textContent || "").trim().replace(/\s+/g, " ").slice(0, 50);
		if (document.documentElement.scrollWidth > innerWidth) {
			out.push("the page scrolls sideways: it is " + document.documentElement.scrollWidth + " wide");
		}
		for (const e of document.querySelectorAll("body *")) {
			if (!e.checkVisibility({ visibilityProperty: true }) || e.closest("svg, canvas, .u-wrap, .skip") ||
				e.closest(".hidden") || getComputedStyle(e.closest("thead") ?? e).clipPath !== "none") { continue; }
			const box = e.getBoundingClientRect(), style = getComputedStyle(e);
			if (box.width === 0) { continue; }
			if (box.right > width + 1 || box.left < -1) { out.push("wider than the page: " + name(e)); }
			const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
			if (own && box.width < 60 && box.height > 70) { out.push("squeezed: " + name(e)); }
			const field = e.matches("input, select, textarea");
			const block = style.display !== "inline" && style.display !== "contents";
			if (!field && block && e.scrollWidth > e.clientWidth + 1 &&
				(style.overflowX !== "visible" || e.matches("td, th, button"))) {
				out.push("cut off: " + name(e) + ", " + e.scrollWidth + " in " + e.clientWidth);
			}
			if (touch && e.matches("a[href], button, summary, input, select, textarea, [tabindex='0']")) {
				const target = (e.closest("label") ?? e).getBoundingClientRect();
				if (target.width < 44 || target.height < 44) {
					out.push("small target: " + name(e) + ", " + target.width + " by " + target.height);
				}
			}
		}
		return out;
	})(`+map[bool]string{true: "true", false: "false"}[touch]+`)`)
}

// lowContrast lists the texts whose contrast with their background is under 4.5 to 1, the minimum of
// WCAG 2.2 at level AA.
func (b *browser) lowContrast() []string {
	b.t.Helper()
	return eval[[]string](b, `(() => {
		const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
		const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
		const luminance = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
			.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
		const blend = (under, [r, g, b, a]) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
		const background = (e) => {
			const layers = [];
			for (let up = e; up; up = up.parentElement) {
				const c = parse(getComputedStyle(up).backgroundColor);
				layers.push([c[0], c[1], c[2], c[3] ?? 1]);
				if ((c[3] ?? 1) === 1) { break; }
			}
			return layers.reverse().reduce(blend, [255, 255, 255]);
		};
		const out = [];
		for (const e of document.querySelectorAll("body *")) {
			const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
			if (!own || !e.checkVisibility()) { continue; }
			const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(background(e))];
			const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			const name = e.tagName + "." + e.className;
			if (ratio < 4.5) { out.push(name + " " + ratio.toFixed(2) + ": " + e.textContent.trim().slice(0, 40)); }
		}
		return out;
	})()`)
}
