// A model that answers with the sentence that fits the prompt best, by BM25.

const terms = (text) => text.toLowerCase().match(/\p{L}{3,}/gu) ?? [];

const saturation = 1.2;
const lengthWeight = 0.75;

export function index(text) {
  const sentences = text.split("\n").filter((line) => line.trim() !== "");
  const documents = sentences.map(terms);
  const frequency = {};
  for (const document of documents) {
    for (const term of new Set(document)) frequency[term] = (frequency[term] ?? 0) + 1;
  }
  const length = documents.reduce((sum, document) => sum + document.length, 0) / documents.length;
  return { sentences, documents, frequency, length };
}

export function best({ sentences, documents, frequency, length }, prompt) {
  const asked = [...new Set(terms(prompt))];
  const score = (document) =>
    asked.reduce((sum, term) => {
      const count = document.filter((other) => other === term).length;
      if (count === 0) return sum;
      const rarity = Math.log(1 + (documents.length - frequency[term] + 0.5) / (frequency[term] + 0.5));
      const norm = saturation * (1 - lengthWeight + (lengthWeight * document.length) / length);
      return sum + (rarity * count * (saturation + 1)) / (count + norm);
    }, 0);
  const scores = documents.map(score);
  const highest = Math.max(...scores);
  return highest > 0 ? sentences[scores.indexOf(highest)] : "I know nothing about that.";
}

export function* generate(known, prompt, maxTokens) {
  const said = best(known, prompt).match(/\S+\s*/g).slice(0, maxTokens);
  for (const word of said) yield word.endsWith(" ") ? word : `${word} `;
}
